"""Where a result comes from: commit, processor, accelerators, backend."""

import os
import pathlib
import platform
import subprocess

import keras


def commit():
    """The short hash of the checkout, marked if files differ; empty without git."""

    def git(*arguments):
        command = ["git", "-C", str(pathlib.Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    try:
        head = git("rev-parse", "--short", "HEAD")
    except OSError:  # no git
        return ""
    if head.returncode:
        return ""
    # Results are written while experiments run, so they do not count.
    others = (":/", ":(top,exclude)applications/results")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *others)
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def hardware():
    """The processor, its cores, and the accelerators that the backend sees."""
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return ", ".join([name, f"{os.cpu_count()} cores", *accelerators()])


def accelerators():
    """Names of the accelerators that the backend sees."""
    if keras.backend.backend() == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    devices = tf.config.list_physical_devices("GPU")
    return [details(device).get("device_name", device.name) for device in devices]


def has_bfloat16():
    """Whether the device that trains computes in bfloat16.

    A processor's flags say so, and of a GPU its compute capability, if 8 or more.
    """
    if keras.backend.backend() == "jax":
        import jax

        devices = [d for d in jax.devices() if d.platform != "cpu"]
        found = [float(getattr(d, "compute_capability", 8)) for d in devices]
    else:
        import tensorflow as tf

        details = tf.config.experimental.get_device_details
        devices = tf.config.list_physical_devices("GPU")
        found = [details(d).get("compute_capability", (0,))[0] for d in devices]
    if found:
        return min(found) >= 8
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


def columns(settings):
    """The last columns of a row: number format, backend, hardware and flags."""
    return {
        "dtype": keras.config.dtype_policy().name,
        "backend": keras.backend.backend(),
        "hardware": hardware(),
        "flags": settings.command_line(),
    }
