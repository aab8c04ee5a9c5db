"""What the CPU that Numba compiles for can do: its fused multiply-add and its vectors' width."""

import os
import platform
import re
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm

from fastmlp_kernels.compiling.stored import remembered

VARIABLE = "FASTMLP_VECTOR_BITS"
WIDTHS = (512, 256, 128, 0)

_PROBE = """
declare <8 x double> @llvm.fma.v8f64(<8 x double>, <8 x double>, <8 x double>)
define <8 x double> @probe(<8 x double> %a, <8 x double> %b, <8 x double> %c) {
  %d = call <8 x double> @llvm.fma.v8f64(<8 x double> %a, <8 x double> %b, <8 x double> %c)
  ret <8 x double> %d
}
"""


def architecture() -> str:
    """Return "x86_64", "aarch64", or what else the machine calls itself."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def cpu_name() -> str:
    """Return the CPU's name as the system has it, and LLVM's in brackets."""
    name = llvm.get_host_cpu_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()} ({name})"


@cache
def vector_bits() -> int:
    """Return the width of the kernels' vectors: 512, 256 or 128 bits, or 0 for no vector FMA.

    It is the CPU's, or less if the environment variable FASTMLP_VECTOR_BITS asks for it; 0 also
    stands for a CPU without FMA. It is fixed at the first call, as compiled code depends on it.
    Raises ValueError if the variable is not one of the four, or is more than the CPU has.
    """
    widest = remembered("compiling.cpu", "widest_vector_bits")
    runnable = [str(width) for width in WIDTHS if width <= widest]
    forced = os.environ.get(VARIABLE, str(widest))
    if forced not in runnable:
        raise ValueError(
            f"{VARIABLE} must be one of {', '.join(runnable)} on this CPU, got {forced!r}: "
            f"unset it to use the widest, {widest}"
        )
    return int(forced)


def has_fma() -> bool:
    """Return whether kernels use the CPU's FMA; if not, they compute it with other operations."""
    return vector_bits() != 0


def stalls_on_subnormals() -> bool:
    """Return whether the CPU multiplies subnormal numbers in microcode, as Intel's do."""
    name = _target()[1]
    is_amd = name.startswith(("znver", "bdver", "btver", "amdfam"))
    return architecture() == "x86_64" and not is_amd


def widest_vector_bits() -> int:
    """Return what the CPU has, which Numba knows."""
    # The generated code itself answers, not a list of features: that covers every architecture,
    # and NUMBA_CPU_NAME and NUMBA_CPU_FEATURES in all their combinations.
    code = _machine_code(_PROBE)
    if re.search(r"\b_?fma\b", code):  # a call of the C library's function: no FMA here
        return 0
    if "zmm" in code:
        return 512
    return 256 if "ymm" in code else 128


def _machine_code(module: str) -> str:
    """Return `module` (LLVM IR) in the assembly of the CPU that Numba compiles for."""
    triple, cpu, features = _target()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, features=features, opt=2)
    code: str = machine.emit_assembly(llvm.parse_assembly(module))
    return code


def _target() -> tuple[str, str, str]:
    """Return the triple, the CPU and its features that Numba compiles for."""
    from numba.core.registry import cpu_target  # which takes half of a program's start

    target: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return target
