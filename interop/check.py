"""check.py mcap|rosbags DIRECTORY: reads the files there with PyPI's `mcap`, or with `rosbags`, and compares them with what is
said beside them: see src/truth.rs. Exits with 3 if anything is another."""

import itertools
import json
import pathlib
import sys

import numpy
from mcap.reader import NonSeekingReader, SeekingReader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore


class Different(Exception):
    pass


def same(what, expected, found):
    if expected != found:
        raise Different(f"{what}: expected {expected!r}, found {found!r}")


def compare(expected, found):
    """Both are messages as (topic, sequence, ...)."""
    for at, (one, other) in enumerate(itertools.zip_longest(expected, found)):
        name = " ".join(map(str, (one or other)[:2]))
        same(f"message {at}, {name}", one, other)


def schemas(channels):
    """A store of the types that the channels define."""
    store = get_typestore(Stores.EMPTY)
    for schema, name, encoding in channels:
        if encoding == "ros2msg":
            store.register(get_types_from_msg(schema, name))
    return store


def plain(value, expected):
    """What was decoded, in the form in which it is expected: numbers of 64 bits are text."""
    if isinstance(expected, dict):
        names = [name for name in vars(value) if name != "__msgtype__"]
        same("names of fields", list(expected), names)
        return {name: plain(getattr(value, name), inner) for name, inner in expected.items()}
    if isinstance(expected, list):
        found = value.tolist() if isinstance(value, numpy.ndarray) else value
        same("length of an array", len(expected), len(found))
        return [plain(one, inner) for one, inner in zip(found, expected)]
    return str(value) if isinstance(expected, str) else value


def check_mcap(path, channels, messages):
    with open(path, "rb") as file:
        reader = SeekingReader(file, validate_crcs=True)
        summary = reader.get_summary()
        found = {}
        for channel in summary.channels.values():
            schema = summary.schemas.get(channel.schema_id)
            about = (schema.name, schema.encoding, schema.data.decode()) if schema else ("", "", "")
            found[channel.topic] = (channel.message_encoding, *about)
            if "metadata" in channels[channel.topic]:
                same(f"metadata of {channel.topic}", channels[channel.topic]["metadata"], channel.metadata)
        keys = "message_encoding", "schema_name", "schema_encoding", "schema"
        same("channels", {topic: tuple(channel[key] for key in keys) for topic, channel in channels.items()}, found)
        same("messages as the summary counts them", len(messages), summary.statistics.message_count)

        expected = [(line["topic"], line["sequence"], int(line["log_time"]), int(line["publish_time"]), line["data"])
                    for line in messages]
        file.seek(0)
        for way in reader, NonSeekingReader(file, validate_crcs=True):
            compare(expected, ((channel.topic, message.sequence, message.log_time, message.publish_time, message.data.hex())
                               for _, channel, message in way.iter_messages()))
            file.seek(0)
    return f"{len(messages)} messages"


def check_rosbags(path, channels, messages):
    if any(channel["schema_encoding"] not in ("", "ros2msg") for channel in channels.values()):
        raise NotImplementedError("it knows no other schemas than ros2msg")
    if not any(channel["schema_encoding"] for channel in channels.values()):
        raise NotImplementedError("it knows no files without ROS in them")
    with Reader(path) as reader:
        same("messages as they are counted", len(messages), reader.message_count)
        store = schemas((connection.msgdef.data, connection.msgtype, channels[connection.topic]["schema_encoding"])
                        for connection in reader.connections)
        found = list(reader.messages())
    compare([(line["topic"], line["log_time"], line["data"]) for line in messages],
            [(connection.topic, str(time), data.hex()) for connection, time, data in found])
    decoded = 0
    for at, (line, (connection, _, data)) in enumerate(zip(messages, found)):
        if "fields" in line:
            fields = plain(store.deserialize_cdr(data, connection.msgtype), line["fields"])
            same(f"message {at}, {line['topic']} {line['sequence']}: fields", line["fields"], fields)
            decoded += 1
    return f"{len(messages)} messages, {decoded} of them decoded"


def main(reader, directory):
    check = {"mcap": check_mcap, "rosbags": check_rosbags}[reader]
    code = 0
    paths = sorted(pathlib.Path(directory).glob("*.mcap"))
    if not paths:
        raise SystemExit(f"{directory} has no files")
    for path in paths:
        lines = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
        channels = {line["channel"]: line for line in lines if "channel" in line}
        messages = [line for line in lines if "topic" in line]
        try:
            print(f"{reader}: {path.name}: {check(path, channels, messages)}")
        except NotImplementedError as reason:
            print(f"{reader}: {path.name}: not read: {reason}")
        except Different as difference:
            print(f"{reader}: {path.name}: {difference}")
            code = 3
    return code


sys.exit(main(*sys.argv[1:]))
