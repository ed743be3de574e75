"""Functions that are compiled as parts of those that call them: once, however deep the calls are nested.

numba makes a finished library of every function, and optimises its code again in each library that links it in: what
lies five calls deep is optimised five times over, and made into machine code that nothing runs.  A part is handed to
its callers as plain LLVM code; only the function that Python calls, an ordinary njit, optimises all of it, together.
That function's file in the cache holds everything: parts have none of their own.  They cannot be called from Python.
"""

from __future__ import annotations

import gc
import operator
from collections.abc import Callable
from typing import Any

from numba.core import typed_passes, types, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.registry import CPUDispatcher
from numba.core.typing.arraydecl import GetItemBuffer, SetItemBuffer
from numba.core.typing.templates import infer_global

_PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.DeadBranchPrune,
    untyped_passes.GenericRewrites,
    untyped_passes.InlineInlinables,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)
"""Those of numba's passes that scalar code in loops needs: no closures, array expressions, object mode or parfors."""


class _Library(JITCodeLibrary):
    """The code of a part and of the parts that it calls, as it was lowered."""

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, env: Any) -> None:
        """Nothing here is run."""

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _Compiler(CompilerBase):
    def _compile_core(self) -> Any:
        """Without collection of garbage meanwhile, an eighth of the time: next to nothing of what there is, is any."""
        if not gc.isenabled():
            return super()._compile_core()
        gc.disable()
        try:
            return super()._compile_core()
        finally:
            gc.enable()

    def define_pipelines(self) -> list[Any]:
        self.state.library = _Library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        passes = PassManager("part")
        for one in _PASSES:
            passes.add_pass(one, one.__name__)
        passes.finalize()
        return [passes]


class _Part(CPUDispatcher):
    """Compiled once for an int and all its literals, which reach it as constants anyway where it is inlined."""

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} is part of other compiled functions: only they can call it")

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return super().get_call_template([types.unliteral(one) for one in args], kws)


def part(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: the function is a part; options are those of numba.njit."""
    given = {
        "nopython": True,
        "boundscheck": None,
        "error_model": "numpy",
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
    }

    def decorate(function: Callable[..., Any]) -> Any:
        return _Part(function, targetoptions=given | options, pipeline_class=_Compiler)

    return decorate


# What x[i] is, numba asks of strings, lists and dictionaries before it asks arrays; a rule for one target comes first.
infer_global(operator.getitem)(type("_GetItem", (GetItemBuffer,), {"metadata": {"target": "cpu"}}))
infer_global(operator.setitem)(type("_SetItem", (SetItemBuffer,), {"metadata": {"target": "cpu"}}))
