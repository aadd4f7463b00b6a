"""What each guard objects to and what it lets through. Both ways round, since no guard may care which came first."""

import pytest

from services.cache.semantic.guards import GUARDS, first_objection
from services.cache.semantic.verdict import Decider
from services.cache.semantic.words import Words

OBJECTIONS = {
    Decider.GUARD_NUMBERS: [
        ("What is 17 + 4?", "What is 17 + 5?"),
        ("Top 5 films", "Top ten films"),
        ("Who won in 2023?", "Who won in 2024?"),
        ("Transfer 1,000 now", "Transfer 1,001 now"),
        ("Is 1.5 enough?", "Is 15 enough?"),
        ("Convert three cups", "Convert four cups"),
        ("Version 3.11.2 notes", "Version 3.11.3 notes"),
    ],
    Decider.GUARD_POLARITY: [
        ("Can I use it?", "Can I not use it?"),
        ("Why can I log in?", "Why can't I log in?"),
        ("Is it safe to eat?", "Is it unsafe to eat?"),
        ("How do I enable the alarm?", "How do I disable the alarm?"),
        ("Should I buy the house?", "Should I sell the house?"),
        ("How to gain weight quickly?", "How to lose weight quickly?"),
        ("Pros of nuclear power", "Cons of nuclear power"),
        ("Is that legal here?", "Is that illegal here?"),
        ("Tea with sugar", "Tea without sugar"),
        ("Is it connected?", "Is it disconnected?"),
        ("Darf ich hier parken", "Darf ich hier nicht parken"),
    ],
    Decider.GUARD_ENTITIES: [
        ("Is the Louvre open?", "Is the Prado open?"),
        ("how do i say hello in french", "how do i say hello in german"),
        ("weather for tomorrow please", "weather for friday please"),
        ("Compare GPT-4 and others", "Compare GPT-5 and others"),
        ('What does "idle" mean?', 'What does "idol" mean?'),
        ("What does parseInt do?", "What does parseFloat do?"),
        ("My order of ABC stock", "My order of XYZ stock"),
    ],
    Decider.GUARD_UNITS: [
        ("How many km is it?", "How many miles is it?"),
        ("What does it cost in $?", "What does it cost in €?"),
        ("Boil for 5 minutes", "Boil for 5 hours"),
    ],
    Decider.GUARD_WORD_ORDER: [
        ("Did the cat chase the dog?", "Did the dog chase the cat?"),
        ("convert celsius temperature into fahrenheit", "convert fahrenheit temperature into celsius"),
        ("can a teacher sue a school board", "can a school board sue a teacher"),
    ],
    Decider.GUARD_LANGUAGE: [
        ("Wie ist das mit der Karte und dem Konto", "How is that with the card and the account"),
        ("карта не работает", "the card is broken"),
    ],
    Decider.GUARD_LENGTH: [
        ("reset password", "reset password " + "after the reader has been locked by the desk " * 3),
    ],
    Decider.GUARD_QUESTION_KIND: [
        ("When does the shop open?", "Where does the shop open?"),
        ("Who made this film?", "Why was this film made?"),
        ("How much is the ticket?", "Where is the ticket?"),
    ],
}
CASES = [(guard, a, b) for guard, pairs in OBJECTIONS.items() for a, b in pairs]

HARMLESS = [
    ("How do I reset my password?", "how can I reset my password"),
    ("I can't log in", "I cannot log in"),
    ("Transfer 1,000 now", "transfer 1000 now"),
    ("Give me 2.50 back", "give me 2.5 back"),
    ("Give me five examples", "give me 5 examples"),
    ("When will my card arrive?", "How long until my card arrives?"),
    ("Is the Louvre open?", "is the louvre open"),
    ("The one I ordered", "What I ordered"),
    ("Where is my card?", "Where is my new card?"),
    ("What is the capital of Canada?", "Which city is the capital of Canada?"),
    ("Boil for 5 minutes", "boil for 5 mins"),
    ("Why won't it start, and why is it not on?", "why does it start"),
]


@pytest.mark.parametrize(("guard", "a", "b"), CASES)
def test_a_guard_objects_to_what_it_is_for(guard, a, b):
    objects = dict(GUARDS)[guard]
    assert objects(Words(a), Words(b))
    assert objects(Words(b), Words(a))
    assert first_objection(Words(a), Words(b)) is not None


@pytest.mark.parametrize(("a", "b"), HARMLESS)
def test_what_means_the_same_passes_all_guards(a, b):
    assert first_objection(Words(a), Words(b)) is None
    assert first_objection(Words(b), Words(a)) is None


def test_a_text_passes_all_guards_against_itself():
    for _, a, b in CASES:
        assert first_objection(Words(a), Words(a)) is None
        assert first_objection(Words(b), Words(b)) is None


def test_every_guard_has_a_name_of_its_own_and_cases():
    names = [decider for decider, _ in GUARDS]
    assert len(set(names)) == len(names)
    assert set(OBJECTIONS) == set(names)
