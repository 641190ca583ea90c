"""write.py DIRECTORY: has PyPI's `mcap` and `rosbags` write files there, and says beside each what is in it: see src/truth.rs."""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter
from rosbags.typesys import Stores, get_typestore

BEGIN = 1_700_000_000_000_000_000
STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types


class Truth:
    def __init__(self, path):
        self.file = open(path.with_suffix(".jsonl"), "w")

    def line(self, **values):
        print(json.dumps(values), file=self.file)

    def channel(self, topic, encoding, name, schema_encoding, schema, metadata=None):
        more = {} if metadata is None else {"metadata": metadata}
        self.line(channel=topic, message_encoding=encoding, schema_name=name, schema_encoding=schema_encoding,
                  schema=schema, **more)


def definition(name):
    return STORE.generate_msgdef(name, ros_version=2)[0]


def cdr(number):
    """Messages of fixed and of variable length, by topic: their types and bytes."""
    header = TYPES["std_msgs/msg/Header"](
        stamp=TYPES["builtin_interfaces/msg/Time"](sec=number, nanosec=7), frame_id="base" * (number % 3))
    joints = number % 5
    # One is longer than topics are that are made for any length.
    text = "wörter " * (2000 if number == 200 else number % 50)
    messages = {
        "/force": TYPES["geometry_msgs/msg/Vector3"](x=number / 3, y=-0.0, z=1e300),
        "/text": TYPES["std_msgs/msg/String"](data=text),
        "/joints": TYPES["sensor_msgs/msg/JointState"](
            header=header, name=[f"joint{at}" for at in range(joints)], position=numpy.arange(joints) / 3,
            velocity=numpy.zeros(0), effort=numpy.ones(joints)),
    }
    return {topic: (message.__msgtype__, bytes(STORE.serialize_cdr(message, message.__msgtype__)))
            for topic, message in messages.items()}


def write_mcap(path, **options):
    truth = Truth(path)
    with open(path, "wb") as file:
        writer = Writer(file, chunk_size=4096, **options)
        writer.start(profile="ros2", library="another")
        channels = {}
        metadata = {"source": "pypi", "empty": ""}

        def channel(topic, encoding, name, schema_encoding, schema):
            number = writer.register_schema(name, schema_encoding, schema.encode()) if name else 0
            channels[topic] = writer.register_channel(topic, encoding, number, metadata)
            truth.channel(topic, encoding, name, schema_encoding, schema, metadata)

        for topic, (name, _) in cdr(0).items():
            channel(topic, "cdr", name, "ros2msg", definition(name))
        channel("json", "json", "Note", "jsonschema", '{"type":"object"}')
        channel("bytes", "", "", "", "")
        for number in range(400):
            contents = {topic: data for topic, (_, data) in cdr(number).items()}
            contents["json"] = json.dumps({"number": number}).encode()
            contents["bytes"] = bytes(range(number % 200))
            for at, (topic, data) in enumerate(contents.items()):
                # Out of order by fours.
                time = BEGIN + (number ^ 3) * 1_000_000 + at
                writer.add_message(channels[topic], log_time=time, publish_time=time - 7, sequence=number + 1, data=data)
                truth.line(topic=topic, sequence=number + 1, log_time=str(time), publish_time=str(time - 7), data=data.hex())
        writer.finish()


def write_bag(path, mode):
    truth = Truth(path)
    with tempfile.TemporaryDirectory() as directory:
        bag = pathlib.Path(directory) / "bag"
        writer = BagWriter(bag, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connections = {}
            for topic, (name, _) in cdr(0).items():
                connections[topic] = writer.add_connection(topic, name, typestore=STORE)
                truth.channel(topic, "cdr", name, "ros2msg", definition(name))
            for number in range(400):
                for at, (topic, (_, data)) in enumerate(cdr(number).items()):
                    time = BEGIN + (number ^ 3) * 1_000_000 + at
                    writer.write(connections[topic], time, data)
                    truth.line(topic=topic, log_time=str(time), data=data.hex())
        shutil.copy(bag / "bag.mcap", path)


directory = pathlib.Path(sys.argv[1])
for compression in CompressionType:
    write_mcap(directory / f"pypi-{compression.name.lower()}.mcap", compression=compression)
write_mcap(directory / "pypi-unchunked.mcap", use_chunking=False)
write_bag(directory / "rosbags-none.mcap", CompressionMode.NONE)
write_bag(directory / "rosbags-zstd.mcap", CompressionMode.STORAGE)
