"""Facilitator teams: a limited resource that is somewhere and has to travel."""

from __future__ import annotations

from collections import deque
from typing import Any

import simpy


class Teams:
    """Teams that know where they are.

    A team that becomes free takes the group that has waited longest; where journeys take time, first the one that has
    waited longest in its own district. A group that finds teams free takes the one that has been free longest; where
    journeys take time, first of those that need none. A team's first journey is made before it is needed, so that teams
    take turns rather than that one trains everybody and cannot be told from the training.
    number : teams there are; None = as many as are needed, none of which is counted.  travel : days of a journey.
    """

    def __init__(self, env: simpy.Environment, number: int | None, travel: int) -> None:
        self.env, self.travel, self.is_counted = env, travel, number is not None
        self.place: dict[int, int] = {}
        self.free = deque(range(number or 0))
        self.waiting: deque[tuple[int, Any]] = deque()
        self.travel_days = 0

    def request(self, district: int) -> Any:
        """An event whose value is the team, -1 if not counted, and the days until it is in the district."""
        event = self.env.event()
        if not self.is_counted:
            event.succeed((-1, 0))
        elif self.free:
            near = next((t for t in self.free if self.place.get(t, district) == district), None)
            team = self.free[0] if near is None else near
            self.free.remove(team)
            self._send(team, district, event)
        else:
            self.waiting.append((district, event))
        return event

    def release(self, team: int) -> None:
        if not self.is_counted:
            return
        if not self.waiting:
            self.free.append(team)
            return
        near = (i for i, (district, _) in enumerate(self.waiting) if district == self.place[team])
        at = next(near, 0) if self.travel else 0
        district, event = self.waiting[at]
        del self.waiting[at]
        self._send(team, district, event)

    def _send(self, team: int, district: int, event: Any) -> None:
        journey = self.travel if self.place.get(team, district) != district else 0
        self.place[team] = district
        self.travel_days += journey
        event.succeed((team, journey))
