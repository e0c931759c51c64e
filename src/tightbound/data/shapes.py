from tightbound.data.part import Source
from tightbound.data.settings import DataSettings


def load_shapes(settings: DataSettings) -> Source:
    raise NotImplementedError
