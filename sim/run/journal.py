"""What happened in a run, one JSON object a line: started, resumed, a worker lost, a block found damaged, finished."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Journal:
    """Appends to `log.jsonl` of a result folder, and says aloud what a user should hear."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self.say = say

    def note(self, event: str, aloud: str = "", **facts: Any) -> None:
        """One line for the event with its time and facts; `aloud` is shown to the user as well."""
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
        if aloud:
            line["said"] = aloud
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line, ensure_ascii=False) + "\n")
        if aloud:
            self.say(aloud)
