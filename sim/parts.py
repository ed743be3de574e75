"""Parts: the frozen, validated building blocks that a scenario names, and the registry that finds them.

A family (designs, analyses, ...) is a folder; a part is a class in one of its files, registered under the name that a
scenario writes as `kind`. Adding a part touches that one file: the folder is searched, nothing else lists its content.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

Value = TypeVar("Value")
P = TypeVar("P", bound="type[Part]")


def refuse(message: str, *at: str, **values: Any) -> PydanticCustomError:
    """The error a validator raises; its text is shown to the user, at the key `at` below the part.

    `{low}` in the text becomes the value of the part's key `low` as the user wrote it, or else the one in `values`.
    """
    return PydanticCustomError("refused", message if values else "{message}", {"message": message, "at": at, **values})


def refuse_all(errors: Sequence[PydanticCustomError]) -> PydanticCustomError:
    """Several errors of one part as one; the user sees each at its place."""
    message = "; ".join(error.message() for error in errors)
    return PydanticCustomError(
        "refused", "{message}", {"message": message, "several": [error.context for error in errors]}
    )


class Part(BaseModel):
    """A frozen record whose unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    example: ClassVar[dict[str, Any]] = {}


class Assumption(Part, Generic[Value]):
    """One planning number with its plausible range, its basis and its source, so that a reader can trace it.

    `basis` is `observed` (in the seed study, arithmetic on it included), `published` (elsewhere) or `assumption`.
    """

    value: Value
    low: Value
    high: Value
    basis: Literal["observed", "published", "assumption"]
    source: str

    @model_validator(mode="after")
    def _value_in_range(self) -> Assumption[Value]:
        if not self.low <= self.value <= self.high:  # type: ignore[operator]
            raise refuse(
                "the value must lie within its own range: low {low}, value {value}, high {high}",
                "low" if self.low > self.value else "high",  # type: ignore[operator]
                low=self.low,
                value=self.value,
                high=self.high,
            )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to another process without its type parameter, which there would be another class of that name."""
        return _as_it_was, (dict(self),)


def _as_it_was(values: dict[str, Any]) -> Assumption[Any]:
    return Assumption[Any].model_construct(**values)


class Registry:
    """The parts of one family, by the name that scenarios use."""

    def __init__(self, family: str, package: str) -> None:
        self.family = family
        self.package = package
        self._parts: dict[str, type[Part]] = {}

    def register(self, name: str) -> Callable[[P], P]:
        def keep(part: P) -> P:
            if name in self._parts:
                raise ValueError(f"two {self.family} parts are called {name!r}")
            self._parts[name] = part
            return part

        return keep

    def registered(self) -> dict[str, type[Part]]:
        """The parts by name whose files have been imported so far."""
        return dict(sorted(self._parts.items()))

    def discover(self) -> dict[str, type[Part]]:
        """Import every file of the family's folder and return its parts by name."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return self.registered()

    def __iter__(self) -> Iterator[str]:
        return iter(self.discover())


DESIGNS = Registry("design", "sim.designs")
MODELS = Registry("outcome model", "sim.generate")
MISSINGNESS = Registry("missingness", "sim.missingness")
ANALYSES = Registry("analysis", "sim.analyses")
ESTIMANDS = Registry("estimand", "sim.estimands")
