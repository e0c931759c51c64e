"""Files that other programs read: ONNX graphs in raw units, weights with a config."""

from tightbound.exporting.export import Exported, Format, export_run
from tightbound.exporting.weights import read_module

__all__ = ["Exported", "Format", "export_run", "read_module"]
