"""Log lines as templates and bare values, for readers that can look a template up: a row alone tells nothing.

Log of 4 lines by 2 templates, ...:
A=[<t>] [notice] Found child <1> in slot <2>
B=[<t>] [error] in state <1=6>
<t>=Sun Dec 04 * 2005
A|04:51:08|6725|10
A|09|6726|8            04:51:09: only the end of the time that changed is written
B                      at the same time; the state is the usual one
>a line that is like no other
"""

from __future__ import annotations

from services.compressor.shield import Shield
from services.compressor.stages.log_format import DENSE, rewritten_logs
from services.compressor.stages.stage import Loss, Quality, Rewritten


class LogTemplate:
    """Stretches of log lines outside code."""

    name = "log_template"
    description = "Writes log lines as templates and the values of each line"
    loss = Loss.LOSSLESS
    quality = Quality(score=0.55, low=0.4, high=0.9)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        return rewritten_logs(text, shield, DENSE)
