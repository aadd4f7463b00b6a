"""Logs as templates and rows, in both layouts: every byte can be read back, and what is no log is left alone."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.compressor.shield import shield
from services.compressor.stages.log_format import expanded
from services.compressor.stages.log_rows import LogRows
from services.compressor.stages.log_template import LogTemplate
from services.compressor.stages.stage import Stage
from tests.support.growth import assert_time_grows_with_length

BOTH = pytest.mark.parametrize("stage", [LogTemplate(), LogRows()], ids=lambda stage: stage.name)


def shortened(stage: Stage, text: str, protect: tuple[str, ...] = (), frozen: int = 0) -> str:
    return stage.rewrite(text, shield(text, protect=protect, frozen_chars=frozen)).text


LOG = """[Sun Dec 04 04:51:08 2005] [notice] jk2_init() Found child 6725 in scoreboard slot 10
[Sun Dec 04 04:51:09 2005] [notice] jk2_init() Found child 6726 in scoreboard slot 8
[Sun Dec 04 04:51:09 2005] [error] mod_jk child workerEnv in error state 6
[Sun Dec 04 04:51:09 2005] [error] mod_jk child workerEnv in error state 6
    at frame 1
[Sun Dec 04 04:52:15 2005] [notice] jk2_init() Found child 6730 in scoreboard slot 7
[Sun Dec 04 04:52:15 2005] [error] mod_jk child workerEnv in error state 7
[Mon Dec 05 00:00:01 2005] [error] mod_jk child workerEnv in error state 6
[Mon Dec 05 00:00:02 2005] [notice] Graceful restart requested, doing restart
[Mon Dec 05 00:00:03 2005] [notice] jk2_init() Found child 6731 in scoreboard slot 9"""


def test_rows_tell_each_line_by_themselves():
    assert shortened(LogRows(), LOG) == (
        "Log of 10 lines by 2 templates; rows: time|template|<1>|<2>..., empty = as in template:\n"
        "A=[<t>] [notice] jk2_init() Found child <1> in scoreboard slot <2>\n"
        "B=[<t>] [error] mod_jk child workerEnv in error state <1=6>\n"
        "<t>=Sun Dec 04 * 2005\n"
        "04:51:08|A|child 6725|slot 10\n"
        "04:51:09|A|child 6726|slot 8\n"
        "04:51:09|B\n"
        "04:51:09|B\n"
        ">    at frame 1\n"
        "04:52:15|A|child 6730|slot 7\n"
        "04:52:15|B|state 7\n"
        "<t>=Mon Dec 05 * 2005\n"
        "00:00:01|B\n"
        ">[Mon Dec 05 00:00:02 2005] [notice] Graceful restart requested, doing restart\n"
        "00:00:03|A|child 6731|slot 9"
    )


def test_templates_leave_out_all_that_the_row_before_tells():
    assert shortened(LogTemplate(), LOG) == (
        "Log of 10 lines by 2 templates; rows: template|end of time that changed|<1>|<2>..., empty = as in template:\n"
        "A=[<t>] [notice] jk2_init() Found child <1> in scoreboard slot <2>\n"
        "B=[<t>] [error] mod_jk child workerEnv in error state <1=6>\n"
        "<t>=Sun Dec 04 * 2005\n"
        "A|04:51:08|6725|10\n"
        "A|09|6726|8\n"
        "B\n"
        "B\n"
        ">    at frame 1\n"
        "A|52:15|6730|7\n"
        "B||7\n"
        "<t>=Mon Dec 05 * 2005\n"
        "B|00:00:01\n"
        ">[Mon Dec 05 00:00:02 2005] [notice] Graceful restart requested, doing restart\n"
        "A|03|6731|9"
    )


@BOTH
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_log_between_other_text_is_read_back_to_the_byte(stage, line_end):
    text = f"What went wrong?\n\n{LOG}\n\nAnswer briefly.\n{LOG}\nB|C\n".replace("\n", line_end)
    after = shortened(stage, text)
    assert len(after) < 0.9 * len(text)
    assert expanded(after) == text


FORMATS = [
    "2024-05-01T10:00:{:02d}.123Z INFO [worker-{}] request id={} took {} ms",
    "2024-05-01 10:00:{:02d},123 INFO worker {} request {} took {} ms",
    "May  1 10:00:{:02d} host sshd[{}]: Failed password for invalid user from 10.0.{}.{} port 22",
    '10.0.0.1 - - [01/May/2024:10:00:{:02d} +0000] "GET /a/{} HTTP/1.1" {} {}',
    "17/06/09 20:10:{:02d} INFO storage.BlockManager: Found block rdd_{}_{} locally in {}",
    "081109 2036{:02d} {} INFO dfs.DataNode: Received block blk_{} of size {}",
    "10:00:{:02d} [{}] DEBUG a.b.C - {} of {}",
]


@BOTH
@pytest.mark.parametrize("form", FORMATS)
def test_common_forms_of_time_are_known(stage, form):
    text = "\n".join(form.format(i, 100 + i * 7, 1000 + i * 31, i % 3 + 200) for i in range(30))
    after = shortened(stage, text)
    assert len(after) < (1 if stage.name == "log_rows" else 0.6) * len(text)
    assert expanded(after) == text


@BOTH
def test_words_that_differ_become_values(stage):
    users = ["root", "admin", "guest", "oracle", "test", "ftp", "mysql", "backup", "nagios"]
    text = "\n".join(f"May  1 10:00:0{i} host sshd: Invalid user {user} from inside" for i, user in enumerate(users))
    assert "Invalid user <2> from inside\n" in shortened(stage, text) or "Invalid user <1> from inside\n" in shortened(
        stage, text
    )
    assert expanded(shortened(stage, text)) == text


@BOTH
def test_a_value_that_a_line_repeats_is_written_once(stage):
    text = "\n".join(
        f"10:00:{i:02d} Deleting blk_{i * 7919 + 100003} file /a/blk_{i * 7919 + 100003}" for i in range(20)
    )
    assert "Deleting blk_<1> file /a/blk_<1>\n" in shortened(stage, text)
    assert expanded(shortened(stage, text)) == text


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "At 10:00:00 we met.\nThen we left.\n" * 3,
        "\n".join(f"10:00:0{i} a <1> {i}" for i in range(9)),
        "\n".join(f"10:00:0{i} a number <5={i * 7 + 100} of some" for i in range(9)),
        f"```\n{LOG}\n```",
        shortened(LogTemplate(), LOG) + "\n" + LOG,
        shortened(LogRows(), LOG) + "\n" + LOG,
        "Meeting at 12:30:00 tomorrow",
    ],
)
def test_what_is_no_log_or_would_be_in_doubt_is_left_alone(stage, text):
    assert shortened(stage, text) == text


@BOTH
@pytest.mark.parametrize("marked", ["[Sun Dec 04 04:51:08", "child 6726 in", "error state 6"])
def test_marked_strings_survive(stage, marked):
    assert shortened(stage, LOG, protect=(marked,)).count(marked) == LOG.count(marked)


@BOTH
def test_a_log_that_reaches_into_the_frozen_prefix_is_left_alone(stage):
    assert shortened(stage, "Here:\n" + LOG, frozen=10) == "Here:\n" + LOG


words = st.sampled_from(
    ["a", "b", "x1", "<", "|", "=", "A|", "<t>", ">", "#", "日本", "שלום", "10:00:01", "", "\t", "7", "\r"]
)


@BOTH
@given(
    lines=st.lists(
        st.tuples(
            st.integers(0, 86_399), st.sampled_from(["{} {}", "[{}] {}", "2024-01-01 {} {}", "{}Z {}"]), st.lists(words)
        )
        | st.text(max_size=5),
        max_size=30,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_lines_are_read_back_to_the_byte(stage, lines):
    def written(line):
        if isinstance(line, str):
            return line
        seconds, form, rest = line
        return form.format(time.strftime("%H:%M:%S", time.gmtime(seconds)), " ".join(rest))

    text = "\n".join(map(written, lines))
    after = shortened(stage, text)
    assert len(after) <= len(text)
    assert after == text or expanded(after) == text


@BOTH
@given(text=st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_reading_back_never_fails(stage, text):
    head = shortened(stage, LOG).partition("\n")[0]
    for corrupt in (head + "\n" + text, shortened(stage, LOG)[: len(text) * 3] + text):
        assert isinstance(expanded(corrupt), str)


@BOTH
@pytest.mark.parametrize(
    "line",
    ["10:00:00 a {0}\n", "10:00:00 " + "{0} a{0} " * 40 + "\n", "10:00:00 {0}x y\n\n\n", "w{0}w at 10:00:00 z\n"],
)
def test_time_grows_with_length(stage, line):
    def text_of(size: int) -> str:
        return "".join(line.format(i) for i in range(size // len(line)))

    assert_time_grows_with_length(lambda text: shortened(stage, text), text_of, 400_000)
