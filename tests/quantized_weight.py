"""A weight made of other tensors, as quantization libraries make them, without any of those libraries."""

import torch


class Quantized(torch.Tensor):
    """As torchao's weights: integers and a scale inside, and no sum of the whole."""

    @staticmethod
    def __new__(cls, data, scale):
        return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=scale.dtype)

    def __init__(self, data, scale):
        self.data_inside, self.scale = data, scale

    def __tensor_flatten__(self):
        return ["data_inside", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{function} of a quantized weight")
