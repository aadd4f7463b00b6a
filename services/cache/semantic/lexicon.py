"""The words that the guards know: mostly English, with the negations and function words of five more languages.

A word that is missing here makes a guard silent, never wrong: the error bound still decides.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NEGATIONS = _set(
    """
    no not never none nobody nothing nowhere neither nor cannot without
    nicht kein keine keinen nie niemals ohne
    ne pas jamais rien sans aucun aucune
    nunca jamás nada sin ningún ninguna
    non mai senza nessun nessuna
    não nenhum nenhuma sem niet geen nooit zonder
    """
)

NEGATING_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "de", "non", "mis", "anti")

_OPPOSITES = """
    accept/reject accept/decline accept/refuse activate/deactivate activate/cancel add/remove add/delete
    advantage/disadvantage advantages/disadvantages after/before agree/refuse allow/deny allow/block allow/forbid
    allow/prevent always/never appear/disappear approve/reject approve/deny arrive/depart arrival/departure
    ascending/descending asleep/awake attack/defend back/front backward/forward bad/good begin/end benefit/risk
    best/worst better/worse big/small block/unblock borrow/lend bottom/top bought/sold buy/sell buying/selling
    cheap/expensive cheapest/highest child/adult children/adults clean/dirty cold/hot cold/warm connect/disconnect
    create/delete create/destroy credit/debit dark/light day/night dead/alive decrease/increase decreased/increased
    decreasing/increasing deep/shallow deposit/withdraw deposit/withdrawal die/live difficult/easy disable/enable
    disabled/enabled domestic/international domestic/foreign down/up download/upload downgrade/upgrade dry/wet
    earlier/later early/late east/west eastern/western empty/full encode/decode encrypt/decrypt enter/exit enter/leave
    even/odd exclude/include expand/collapse export/import external/internal fail/pass fail/succeed failure/success
    fake/real false/true fast/slow faster/slower fat/thin female/male females/males few/many fewer/more find/lose
    first/last forget/remember found/lost freeze/unfreeze friend/enemy from/to gain/lose gains/losses give/take
    girl/boy girls/boys guilty/innocent happy/sad hard/easy hard/soft hate/love hate/like he/she heavy/light hide/show
    high/low higher/lower highest/lowest him/her hire/fire his/her horizontal/vertical husband/wife in/out
    incoming/outgoing input/output inside/outside install/uninstall join/leave junior/senior king/queen large/small
    larger/smaller largest/smallest least/most leave/stay left/right legal/illegal less/more load/unload lock/open
    lock/unlock login/logout long/short longer/shorter longest/shortest lose/win losing/winning loss/profit loud/quiet
    major/minor man/woman max/min maximum/minimum men/women mother/father mount/unmount narrow/wide near/far new/old
    newer/older newest/oldest next/previous north/south northern/southern off/on offline/online old/young older/younger
    open/close open/closed optional/required parent/child partial/complete past/future pause/resume
    permanent/temporary permit/prohibit plus/minus poor/rich positive/negative present/absent private/public pro/con
    pros/cons pull/push question/answer raise/cut raise/lower raise/reduce receive/send received/sent
    receiving/sending refund/charge remote/local rise/fall rises/falls rose/fell safe/dangerous safe/unsafe
    same/different save/spend secure/insecure sender/recipient serial/parallel sister/brother son/daughter start/end
    start/finish start/stop started/stopped strength/weakness strengths/weaknesses strong/weak subscribe/unsubscribe
    sunrise/sunset supply/demand tall/short teacher/student thick/thin tighten/loosen together/apart
    transparent/opaque uncle/aunt under/over upper/lower upstream/downstream useful/useless victory/defeat war/peace
    weekday/weekend with/without worsen/improve worse/improved yes/no
"""
OPPOSITES = tuple(frozenset(pair.split("/")) for pair in _OPPOSITES.split())

_UNITS = """
    kilogram: kg kgs kilo kilos kilogram kilograms
    gram: gram grams
    pound-weight: lb lbs
    pound: pound pounds gbp £ quid
    ounce: oz ounce ounces
    ton: ton tons tonne tonnes
    kilometre: km kms kilometer kilometers kilometre kilometres
    metre: meter meters metre metres
    centimetre: cm cms centimeter centimeters centimetre centimetres
    millimetre: mm millimeter millimeters millimetre millimetres
    mile: mile miles mi mph
    foot: ft foot feet
    inch: inch inches
    yard: yard yards
    litre: liter liters litre litres
    millilitre: ml milliliter milliliters millilitre millilitres
    gallon: gallon gallons
    cup: cup cups
    tablespoon: tbsp tablespoon tablespoons
    teaspoon: tsp teaspoon teaspoons
    second: seconds secs
    minute: minute minutes mins
    hour: hour hours hr hrs hourly
    day: day days daily
    week: week weeks weekly
    month: month months monthly
    year: year years yearly annual annually
    celsius: celsius °c centigrade
    fahrenheit: fahrenheit °f
    dollar: dollar dollars usd $ bucks
    euro: euro euros eur €
    yen: yen jpy ¥
    rupee: rupee rupees inr ₹
    percent: percent percents %
    kilobyte: kb kilobyte kilobytes kib
    megabyte: mb megabyte megabytes mib
    gigabyte: gb gigabyte gigabytes gib
    terabyte: tb terabyte terabytes tib
    calorie: calorie calories kcal
    watt: watt watts kw kilowatt kilowatts kwh
"""
UNITS = {
    spelling: name.strip()
    for name, _, spellings in (line.partition(":") for line in _UNITS.splitlines())
    for spelling in spellings.split()
}

_NUMBERS = """
    zero=0 one=1 two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 thirteen=13
    fourteen=14 fifteen=15 sixteen=16 seventeen=17 eighteen=18 nineteen=19 twenty=20 thirty=30 forty=40 fifty=50
    sixty=60 seventy=70 eighty=80 ninety=90 hundred=100 thousand=1000 million=1000000 billion=1000000000 dozen=12
    half=1/2 quarter=1/4 twice=2x double=2x triple=3x
"""
NUMBER_WORDS = {word: number for word, _, number in (pair.partition("=") for pair in _NUMBERS.split())}
UNSPECIFIC_NUMBERS = frozenset({"1"})
"""Spelled out, "one" is a pronoun more often than a number."""

NAMES = _set(
    # Names also where nothing is capitalised: languages and peoples, countries, times, cities, brands.
    """
    english french german spanish italian portuguese dutch russian chinese mandarin cantonese japanese korean arabic
    hindi turkish polish swedish norwegian danish finnish greek hebrew latin swahili thai vietnamese indonesian
    american british indian mexican canadian australian european african asian
    america usa us uk england britain scotland ireland france germany spain italy portugal netherlands belgium
    switzerland austria poland russia ukraine china japan korea india pakistan bangladesh indonesia thailand vietnam
    australia canada mexico brazil argentina chile colombia egypt nigeria kenya israel iran iraq turkey greece sweden
    norway denmark finland iceland africa europe asia
    january february april june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday tonight
    london paris berlin madrid rome tokyo beijing moscow delhi mumbai sydney toronto chicago boston seattle dallas
    texas california florida hawaii york
    visa mastercard amex paypal python java javascript android windows linux mac iphone
    """
)

FUNCTION_WORDS = {
    "en": _set(
        """
        a an the of to in on at by for from with and or but if is are am was were be been being do does did have has
        had i me my mine we us our you your he him his she her it its they them their this that these those there here
        what which who whom whose when where why how can could will would shall should may might must just please as
        so than then too very also about into over any some
        """
    ),
    "de": _set("der die das ein eine und oder ist sind ich du er sie es wir ihr nicht wie was wo wann mit für auf"),
    "fr": _set("le la les un une des et ou est sont je tu il elle nous vous ne pas comment que quoi où quand avec"),
    "es": _set("el la los las un una y o es son yo tú él ella nosotros no cómo qué dónde cuándo con para por"),
    "it": _set("il lo la gli le un una e o è sono io tu lui lei noi non come che cosa dove quando con per"),
    "pt": _set("o a os as um uma e ou é são eu tu ele ela nós não como que onde quando com para por"),
}
