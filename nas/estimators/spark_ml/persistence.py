"""Writes and reads a CerebrosModel: Spark ML's metadata, and the network as a .keras file."""

from __future__ import annotations

from typing import Any

from pyspark.ml.util import (
    DefaultParamsReader,
    DefaultParamsWriter,
    MLReader,
    MLWriter,
)

from nas.estimators.spark_ml.network import Network

_FILE = "network.keras"


class ModelWriter(MLWriter):
    """Writes a model.

    Args:
        instance: The model, whose parameters are written.
        network: Its network.
    """

    def __init__(self, instance: Any, network: Network) -> None:
        super().__init__()
        self.instance = instance
        self._network = network

    def saveImpl(self, path: str) -> None:
        """Writes the network, then the metadata: what has none is not whole."""
        system, file = _file(self.sc, path)
        stream = system.create(file, False)
        try:
            stream.write(bytearray(self._network.as_bytes()))
        finally:
            stream.close()
        facts = {"network": self._network.facts()}
        DefaultParamsWriter.saveMetadata(self.instance, path, self.sc, extraMetadata=facts)


class ModelReader(MLReader):
    """Reads a model.

    Args:
        cls: Its class.
    """

    def __init__(self, cls: Any) -> None:
        super().__init__()
        self._cls = cls

    def load(self, path: str) -> Any:
        """The model at a path."""
        name = f"{self._cls.__module__}.{self._cls.__name__}"
        metadata = DefaultParamsReader.loadMetadata(path, self.sc, name)
        system, file = _file(self.sc, path)
        stream = system.open(file)
        try:
            data = bytes(self.sc._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()
        made = self._cls(Network.read(metadata["network"], data))
        made._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(made, metadata)
        return made


def _file(context: Any, path: str) -> tuple[Any, Any]:
    """The network's file, and the file system that it is on."""
    file = context._jvm.org.apache.hadoop.fs.Path(path, _FILE)
    return file.getFileSystem(context._jsc.hadoopConfiguration()), file
