"""A GPU that is not there: tensors on the CPU that say they are on `cuda:0`, and errors where CUDA would raise them.

    with fake_cuda():
        train(config)          # the path of a GPU: bfloat16, transformers' modules, no dense forward

A tensor that is moved or made there is only marked; numbers and gradients are those of the CPU. An error is raised for
an operator that mixes devices, a CPU tensor indexed by one on the GPU, `.numpy()` of one, and a CPU generator for one.
What runs below Python (autograd's own steps, fused kernels) is not seen, nor what depends on CUDA's kernels or memory.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import accelerate
import bitsandbytes.nn.modules
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import workbench.model.training
from workbench.model.base import BaseSpec, default_device, load_base

CUDA = torch.device("cuda", 0)
PROJECT = ("workbench", "sft", "reward", "ppo", "annotate")
AGNOSTIC = {
    *("tolist", "item", "__int__", "__float__", "__bool__", "__index__", "__len__", "__contains__", "__format__"),
    *("__repr__", "__hash__", "__deepcopy__", "__reduce_ex__", "size", "dim", "numel", "stride", "element_size"),
    *("storage_offset", "ndimension", "nelement", "data_ptr", "untyped_storage", "is_contiguous", "is_complex"),
    *("is_floating_point", "is_inference", "is_conj", "is_neg", "is_pinned", "requires_grad_", "register_hook"),
    *("backward", "_is_view", "_is_zerotensor", "_has_compatible_shallow_copy_type", "is_same_size", "copy_"),
}
"""Methods that a tensor of either device answers with something else than a tensor, or that cross devices."""


class DeviceError(RuntimeError):
    """What CUDA would have refused."""


def on_gpu(value: object) -> bool:
    """Whether this is a tensor that says it is on the GPU."""
    return isinstance(value, Tensor) and "_on_gpu" in value.__dict__


def mark(value: Any) -> Any:
    """Put every tensor in a tree on the GPU; returns the tree."""
    for tensor in _tensors(value):
        tensor._on_gpu = True
    return value


def mark_model(model: nn.Module) -> nn.Module:
    """Put weights, buffers and the scales of NF4 weights on the GPU."""
    mark([*model.parameters(), *model.buffers()])
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        for part in (state, getattr(state, "state2", None)):
            mark([getattr(part, name, None) for name in ("absmax", "code", "offset")])
    return model


class FakeCuda(TorchFunctionMode):
    """Sees every call of a torch function from Python."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer for a device, move, make, or check and call."""
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "__get__":
            return _attribute(func, args)
        if name == "__set__":
            return _assign(func, args)
        if name in ("to", "cpu", "cuda") and args and isinstance(args[0], Tensor):
            target = {"cpu": torch.device("cpu"), "cuda": CUDA}.get(name)
            return _move(args[0], args[1:], kwargs, target)
        if name in AGNOSTIC:
            return func(*args, **kwargs)
        if name in ("__getitem__", "__setitem__"):
            return _index(func, args)
        if kwargs.get("device") is not None:
            return _make(func, args, kwargs)
        return _operate(func, name, args, kwargs)


def _attribute(func: Any, args: Any) -> Any:
    owner, tensor = func.__self__, args[0] if args else None
    if on_gpu(tensor) and owner in (Tensor.device, Tensor.is_cuda, Tensor.is_cpu):
        return {Tensor.device: CUDA, Tensor.is_cuda: True, Tensor.is_cpu: False}[owner]
    value = func(*args)
    return mark(value) if on_gpu(tensor) else value


def _assign(func: Any, args: Any) -> Any:
    there = on_gpu(args[1])  # before the mark is taken off: both may be one tensor
    result = func(*args)
    if func.__self__ is Tensor.data:
        args[0].__dict__.pop("_on_gpu", None)
        if there:
            mark(args[0])
    return result


def _move(tensor: Tensor, rest: tuple[Any, ...], kwargs: dict[str, Any], target: torch.device | None) -> Tensor:
    """`to`, `cpu` and `cuda`: the dtype changes in earnest, the device in name."""
    target, dtype = kwargs.get("device") or target, kwargs.get("dtype")
    for value in rest:
        if isinstance(value, Tensor):
            target, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, (str, torch.device)) or (isinstance(value, int) and not isinstance(value, bool)):
            target = value
    if target is not None and str(target).startswith("meta"):
        return tensor.to(target)
    there = on_gpu(tensor) if target is None else _is_cuda(target)
    copy = bool(kwargs.get("copy")) or there != on_gpu(tensor)
    options = {name: kwargs[name] for name in ("memory_format",) if kwargs.get(name) is not None}
    moved = Tensor.to(tensor, dtype=dtype or tensor.dtype, copy=copy, **options)
    if moved is not tensor:
        moved.__dict__.pop("_on_gpu", None)
        if there:
            mark(moved)
    return moved


def _make(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """A function that is given a device."""
    device, generator = kwargs["device"], kwargs.get("generator")
    if not _is_cuda(device):
        return func(*args, **kwargs)
    if generator is not None and generator.device.type == "cpu":
        raise DeviceError("a CPU generator for a CUDA tensor")
    return mark(func(*args, **(kwargs | {"device": "cpu"})))


def _index(func: Any, args: Any) -> Any:
    tensor, index, rest = args[0], _tensors(args[1]), args[2:]
    reads = not rest
    if not on_gpu(tensor) and any(map(on_gpu, index)) and (reads or any(i.dtype == torch.bool for i in index)):
        raise DeviceError("a CPU tensor indexed by a CUDA tensor")
    if rest and index and isinstance(rest[0], Tensor) and rest[0].dim() and on_gpu(rest[0]) != on_gpu(tensor):
        raise DeviceError("values of one device put at indices of a tensor on another")
    result = func(*args)
    return mark(result) if reads and on_gpu(tensor) else result


def _operate(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [*_tensors(args), *_tensors(kwargs)]
    if not any(map(on_gpu, tensors)):
        return func(*args, **kwargs)
    if name in ("numpy", "__array__"):
        raise DeviceError("numpy() of a CUDA tensor")
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu":
        raise DeviceError("a CPU generator for a CUDA tensor")
    alone = [t for t in tensors if not on_gpu(t) and t.dim() and not t.is_meta]
    if alone and name not in ("type_as", "set_"):
        raise DeviceError(f"{name}: tensors on cuda and cpu (on the cpu: {tuple(alone[0].shape)} {alone[0].dtype})")
    out_dtype = kwargs.pop("out_dtype", None)
    if out_dtype is not None:  # a product that CPUs do not have
        args = [arg.to(out_dtype) for arg in args]
    return mark(func(*args, **kwargs))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [tensor for part in value for tensor in _tensors(part)]


def _is_cuda(device: object) -> bool:
    if isinstance(device, int) and not isinstance(device, bool):
        return True
    return str(device).startswith("cuda")


@contextlib.contextmanager
def fake_cuda() -> Iterator[None]:
    """Within the body, the project finds a GPU, and its bases are loaded there."""
    with pytest.MonkeyPatch.context() as patch:
        trainers_device = workbench.model.training.default_device

        def loaded(spec: BaseSpec, *arguments: Any, **options: Any) -> Any:
            dtype = "bfloat16" if spec.dtype == "auto" else spec.dtype
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(workbench.model.base, "default_device", default_device)
                return mark_model(load_base(replace(spec, dtype=dtype), *arguments, **options))

        _replace_everywhere(patch, load_base, loaded)
        _replace_everywhere(patch, default_device, lambda: CUDA)
        patch.setattr(workbench.model.training, "default_device", trainers_device)  # TRL is told to use the CPU
        patch.setattr(accelerate.Accelerator, "device", property(lambda self: CUDA))
        patch.setattr(transformers.TrainingArguments, "device", property(lambda self: (self._setup_devices, CUDA)[1]))
        for parameter in (nn.Parameter, bitsandbytes.nn.modules.Params4bit):
            patch.setattr(parameter, "__new__", _marking(parameter.__new__))
        fork_rng = torch.random.fork_rng
        patch.setattr(torch.random, "fork_rng", lambda devices=None, **options: fork_rng(devices=[], **options))
        for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
            patch.setattr(torch.cuda, name, lambda *_: None)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 0)
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "none")
        with FakeCuda():
            yield


def _marking(new: Callable[..., Any]) -> Callable[..., Any]:
    def made(cls: type, data: Any = None, *arguments: Any, **options: Any) -> Any:
        parameter = new(cls, data, *arguments, **options)
        return mark(parameter) if on_gpu(data) else parameter

    return made


def _replace_everywhere(patch: pytest.MonkeyPatch, original: object, replacement: object) -> None:
    """In each module of the project that has imported it by name."""
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module.__name__.split(".")[0] not in PROJECT:
            continue
        for name, value in list(vars(module).items()):
            if value is original:
                patch.setattr(module, name, replacement)
