"""MediaPipe's pose task: its classes, and its two networks in the one file that it takes.

The networks of `networks` are those of MediaPipe's older graphs. The pose task wants them in a `.task`, which is a zip
with names of its own, and wants to read in the landmark network how pixels become numbers, which the older graphs knew
by themselves: https://github.com/google-ai-edge/mediapipe, tasks/cc/vision/pose_landmarker.

The zip is made in memory, in 0.1 s, each time: kept on disk it would have to be checked against the hashes of the
networks anyway.
"""

import contextlib
import importlib
import io
import sys
from typing import Any, NamedTuple

from stream.perception import networks
from stream.perception.mediapipe_tasks import hollow_packages

DETECTOR, LANDMARKER = "pose_detection", "pose_landmark_full"
MEAN, STD = 0.0, 255.0  # the landmark network takes (pixel - mean) / std: [0, 1]


class PoseTask(NamedTuple):
    """The classes and modules of MediaPipe that pose estimation needs, all untyped."""

    landmarker: Any
    options: Any
    base_options: Any
    image: Any
    image_format: Any
    model: Any
    metadata: Any
    bundles: Any
    flatbuffers: Any


def load_pose_task() -> PoseTask:
    """Import MediaPipe's pose task without what it drags in, 0.2 s; from the whole package where that is there already.

    Raises:
        ModuleNotFoundError: If mediapipe is not installed.
    """
    if "mediapipe" not in sys.modules:
        # A version that arranges its modules otherwise is imported as a whole: slower, and as good.
        with contextlib.suppress(ModuleNotFoundError, AttributeError), hollow_packages():
            return _load()
    return _load()


def _load() -> PoseTask:
    load = importlib.import_module
    pose = load("mediapipe.tasks.python.vision.pose_landmarker")
    image = load("mediapipe.tasks.python.vision.core.image")
    # The native library is looked up through the package, so it is loaded while that is hollow.
    load("mediapipe.tasks.python.core.mediapipe_c_bindings").load_raw_library()
    return PoseTask(
        landmarker=pose.PoseLandmarker,
        options=pose.PoseLandmarkerOptions,
        base_options=load("mediapipe.tasks.python.core.base_options").BaseOptions,
        image=image.Image,
        image_format=image.ImageFormat,
        model=load("mediapipe.tasks.metadata.schema_py_generated"),
        metadata=load("mediapipe.tasks.metadata.metadata_schema_py_generated"),
        bundles=load("mediapipe.tasks.python.metadata.metadata_writers.model_asset_bundle_utils"),
        flatbuffers=load("flatbuffers"),
    )


def bundle(task: PoseTask) -> bytes:
    """The content of a `.task` with both networks, from the cache or fetched.

    Raises:
        networks.NetworkError: If a network cannot be had.
    """
    members = {
        "pose_detector.tflite": networks.find(DETECTOR).read_bytes(),  # states its own normalisation, to [-1, 1]
        "pose_landmarks_detector.tflite": normalised(task, networks.find(LANDMARKER).read_bytes()),
    }
    content = io.BytesIO()
    task.bundles.create_model_asset_bundle(members, content)
    return content.getvalue()


def normalised(task: PoseTask, network: bytes) -> bytes:
    """A network of one RGB picture, with metadata that say how its pixels become numbers; its weights stay as they are.

    Args:
        task: MediaPipe.
        network: A TensorFlow Lite file without metadata.
    """
    model = task.model.ModelT.InitFromObj(task.model.Model.GetRootAsModel(network, 0))
    buffer = task.model.BufferT()
    buffer.data = list(_metadata(task))
    model.buffers.append(buffer)
    entry = task.model.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return _packed(task, model, b"TFL3")


def _metadata(task: PoseTask) -> bytes:
    schema = task.metadata
    normalisation = schema.NormalizationOptionsT()
    normalisation.mean, normalisation.std = [MEAN], [STD]
    step = schema.ProcessUnitT()
    step.optionsType, step.options = schema.ProcessUnitOptions.NormalizationOptions, normalisation
    picture = schema.ImagePropertiesT()
    picture.colorSpace = schema.ColorSpaceType.RGB
    content = schema.ContentT()
    content.contentPropertiesType, content.contentProperties = schema.ContentProperties.ImageProperties, picture
    tensor = schema.TensorMetadataT()
    tensor.name, tensor.content, tensor.processUnits = "image", content, [step]
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [tensor]
    root = schema.ModelMetadataT()
    root.subgraphMetadata = [graph]
    return _packed(task, root, b"M001")


def _packed(task: PoseTask, table: Any, identifier: bytes) -> bytes:
    builder = task.flatbuffers.Builder(0)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())
