"""Log lines as templates and rows, each of which tells its line without a look at its template.

Log of 4 lines by 2 templates, ...:
A=[<t>] [notice] Found child <1> in slot <2>
B=[<t>] [error] in state <1=6>
<t>=Sun Dec 04 * 2005
04:51:08|A|child 6725|slot 10
04:51:09|A|child 6726|slot 8
04:51:09|B                         the state is the usual one
>a line that is like no other
"""

from __future__ import annotations

from services.compressor.shield import Shield
from services.compressor.stages.log_format import SPOKEN, rewritten_logs
from services.compressor.stages.stage import Loss, Quality, Rewritten


class LogRows:
    """Stretches of log lines outside code that are not written as templates yet."""

    name = "log_rows"
    description = "Writes log lines as templates and rows in which values keep the word before them"
    loss = Loss.LOSSLESS
    quality = Quality(score=0.9, low=0.7, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        return rewritten_logs(text, shield, SPOKEN)
