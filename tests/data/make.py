#!/usr/bin/env python3
"""Makes the MCAP files beside it with other people's writers: PyPI `mcap` 1.6.0 and `rosbags` 0.11.9.

    pip install mcap==1.6.0 rosbags==0.11.9 && python3 make.py

Each file of `mcap` has 40 messages. Message i is on topic `even` or `odd`, has sequence i + 1, log time 1000 + 10 * (i ^ 3), so
that they are out of order by fours, publish time 7 less, and the data {"i":i}; `even` has a schema and metadata.
"""

import pathlib
import shutil
import tempfile

from mcap.writer import CompressionType, IndexType, Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter
from rosbags.typesys import Stores, get_typestore

HERE = pathlib.Path(__file__).parent


def write(name, **options):
    with open(HERE / f"{name}.mcap", "wb") as file:
        writer = Writer(file, chunk_size=400, **options)
        writer.start(profile="test", library="another")
        schema = writer.register_schema("Number", "jsonschema", b'{"type":"object"}')
        even = writer.register_channel("even", "json", schema, metadata={"unit": "1", "origin": "here"})
        odd = writer.register_channel("odd", "json", 0)
        writer.add_attachment(create_time=3, log_time=1100, name="note.txt", media_type="text/plain", data=b"Hello")
        for i in range(40):
            time = 1000 + 10 * (i ^ 3)
            writer.add_message(odd if i % 2 else even, log_time=time, publish_time=time - 7, sequence=i + 1,
                               data=b'{"i":%d}' % i)
        writer.add_metadata("place", {"room": "12", "floor": "0"})
        writer.finish()


write("none", compression=CompressionType.NONE)
write("lz4", compression=CompressionType.LZ4)
write("zstd", compression=CompressionType.ZSTD)
write("crc", compression=CompressionType.ZSTD, enable_crcs=True, enable_data_crcs=True)
write("unchunked", use_chunking=False)
write("bare", use_chunking=False, index_types=IndexType.NONE, use_statistics=False, use_summary_offsets=False,
      repeat_channels=False, repeat_schemas=False, enable_crcs=False)
write("unindexed", compression=CompressionType.LZ4, index_types=IndexType.NONE, use_statistics=False,
      use_summary_offsets=False, repeat_channels=False, repeat_schemas=False)

store = get_typestore(Stores.ROS2_HUMBLE)
Vector3 = store.types["geometry_msgs/msg/Vector3"]
with tempfile.TemporaryDirectory() as directory:
    bag = pathlib.Path(directory) / "bag"
    with BagWriter(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/force", Vector3.__msgtype__, typestore=store)
        for i in range(10):
            writer.write(connection, 1_000_000_000 + i, store.serialize_cdr(Vector3(i, 2.0 * i, -1.0), Vector3.__msgtype__))
    shutil.copy(next(bag.glob("*.mcap")), HERE / "rosbags.mcap")
