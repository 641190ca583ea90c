// check.mjs core|rosmsg DIRECTORY: reads the files there with npm's `@mcap/core`, or decodes their messages with
// `@foxglove/rosmsg` and `@foxglove/rosmsg2-serialization`, and compares them with what is said beside them: see src/truth.rs.
// Exits with 3 if anything is another.

import { parse } from "@foxglove/rosmsg";
import { MessageReader } from "@foxglove/rosmsg2-serialization";
import { McapIndexedReader, McapStreamReader } from "@mcap/core";
import { readdirSync, readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";

import { decompressHandlers, hex, readable } from "./files.mjs";

class Different extends Error {}

function same(what, expected, found) {
  if (isDeepStrictEqual(expected, found)) return;
  const text = (value) => JSON.stringify(value);
  throw new Different(`${what}: expected ${text(expected)}, found ${text(found)}`);
}

const line = ({ topic, sequence, logTime, publishTime, data }) => ({
  topic, sequence, log_time: `${logTime}`, publish_time: `${publishTime}`, data: hex(data),
});

function compare(expected, found) {
  for (let at = 0; at < Math.min(expected.length, found.length); at++) {
    const { fields, ...said } = expected[at];
    same(`message ${at}, ${said.topic} ${said.sequence}`, said, { ...said, ...found[at] });
  }
  same("number of messages", expected.length, found.length);
}

/** All messages, by the file's index. */
async function indexed(path) {
  const file = readable(path);
  const reader = await McapIndexedReader.Initialize({ readable: file, decompressHandlers });
  const messages = [];
  for await (const message of reader.readMessages()) {
    const channel = reader.channelsById.get(message.channelId);
    messages.push({ ...message, topic: channel.topic, schema: reader.schemasById.get(channel.schemaId) });
  }
  file.close();
  return { reader, messages };
}

/** All messages, from the file's beginning to its end. */
function streamed(path) {
  const reader = new McapStreamReader({ decompressHandlers, validateCrcs: true });
  reader.append(readFileSync(path));
  const channels = new Map();
  const messages = [];
  for (let record; (record = reader.nextRecord()); ) {
    if (record.type === "Channel") channels.set(record.id, record.topic);
    if (record.type === "Message") messages.push({ ...record, topic: channels.get(record.channelId) });
  }
  same("whether the file has ended", true, reader.done());
  return messages.sort((a, b) => (a.logTime < b.logTime ? -1 : a.logTime > b.logTime ? 1 : 0));
}

async function core(path, channels, messages) {
  const { reader, messages: found } = await indexed(path);
  const topics = [...reader.channelsById.values()].map((channel) => {
    const schema = reader.schemasById.get(channel.schemaId);
    return {
      channel: channel.topic,
      message_encoding: channel.messageEncoding,
      schema_name: schema?.name ?? "",
      schema_encoding: schema?.encoding ?? "",
      schema: schema ? Buffer.from(schema.data).toString() : "",
      metadata: Object.fromEntries(channel.metadata),
    };
  });
  const sorted = (list) => [...list].sort((a, b) => (a.channel < b.channel ? -1 : 1));
  same("number of channels", channels.length, topics.length);
  sorted(topics).forEach(({ metadata, ...topic }, at) => {
    const said = sorted(channels)[at];
    same("channel", said, "metadata" in said ? { ...topic, metadata } : topic);
  });
  same("messages as the summary counts them", messages.length, Number(reader.statistics.messageCount));
  compare(messages, found.map(line));
  compare(messages, streamed(path).map(line));
  return `${messages.length} messages`;
}

/** What was decoded, in the form in which it is expected: numbers of 64 bits are text, and arrays are arrays. */
function plain(value) {
  if (typeof value === "bigint") return `${value}`;
  if (ArrayBuffer.isView(value)) return Array.from(value, plain);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
  return value;
}

async function rosmsg(path, _, messages) {
  if (!messages.some((said) => said.fields)) return "not read: nothing in it is of ROS";
  const { messages: found } = await indexed(path);
  const decoders = new Map();
  let decoded = 0;
  messages.forEach((said, at) => {
    const { schema, data } = found[at] ?? {};
    if (!said.fields || !schema) return;
    if (!decoders.has(schema.id)) {
      decoders.set(schema.id, new MessageReader(parse(Buffer.from(schema.data).toString(), { ros2: true })));
    }
    const decoder = decoders.get(schema.id);
    same(`message ${at}, ${said.topic} ${said.sequence}: fields`, said.fields, plain(decoder.readMessage(data)));
    same(`message ${at}, ${said.topic} ${said.sequence}: length`, data.length, decoder.lastReadByteLength());
    decoded++;
  });
  same("number of messages", messages.length, found.length);
  return `${decoded} messages decoded`;
}

const [reader, directory] = process.argv.slice(2);
const check = { core, rosmsg }[reader];
const names = readdirSync(directory).filter((name) => name.endsWith(".mcap")).sort();
if (names.length === 0) throw new Error(`${directory} has no files`);
for (const name of names) {
  const path = `${directory}/${name}`;
  const lines = readFileSync(path.replace(/mcap$/, "jsonl"), "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
  const channels = lines.filter((line) => "channel" in line);
  const messages = lines.filter((line) => "topic" in line);
  try {
    console.log(`${reader}: ${name}: ${await check(path, channels, messages)}`);
  } catch (error) {
    if (!(error instanceof Different)) throw error;
    console.log(`${reader}: ${name}: ${error.message}`);
    process.exitCode = 3;
  }
}
