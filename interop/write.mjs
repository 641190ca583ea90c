// write.mjs DIRECTORY: has npm's `@mcap/core` write files there, and says beside each what is in it: see src/truth.rs.

import { parse } from "@foxglove/rosmsg";
import { MessageWriter } from "@foxglove/rosmsg2-serialization";
import { McapWriter } from "@mcap/core";
import { writeFileSync } from "node:fs";

import { hex, writable, zstd } from "./files.mjs";

const BEGIN = 1_700_000_000_000_000_000n;
const TYPES = {
  "/point": ["interop_msgs/msg/Corner", "float32 x\nfloat32 y\n"],
  "/text": ["std_msgs/msg/String", "string data\n"],
  "/named": ["interop_msgs/msg/Named", "string[] names\nfloat64[] values\nuint64 number\n"],
};

function contents(number) {
  return {
    "/point": { x: number, y: -0.5 },
    // One is longer than topics are that are made for any length.
    "/text": { data: "wörter ".repeat(number === 200 ? 2000 : number % 50) },
    "/named": {
      names: Array.from({ length: number % 5 }, (_, at) => `joint${at}`),
      values: Array.from({ length: number % 7 }, (_, at) => at / 3),
      number: 2n ** 64n - BigInt(number + 1),
    },
  };
}

async function write(path, options) {
  const lines = [];
  const file = writable(path);
  const writer = new McapWriter({ writable: file, chunkSize: 4096, ...options });
  await writer.start({ profile: "ros2", library: "another" });
  const channels = {};
  async function channel(topic, messageEncoding, name, encoding, schema) {
    const schemaId = name ? await writer.registerSchema({ name, encoding, data: Buffer.from(schema) }) : 0;
    const metadata = { source: "npm", empty: "" };
    channels[topic] = await writer.registerChannel({ topic, messageEncoding, schemaId, metadata: new Map(Object.entries(metadata)) });
    lines.push({ channel: topic, message_encoding: messageEncoding, schema_name: name, schema_encoding: encoding, schema, metadata });
  }
  const encoders = {};
  for (const [topic, [name, schema]] of Object.entries(TYPES)) {
    await channel(topic, "cdr", name, "ros2msg", schema);
    encoders[topic] = new MessageWriter(parse(schema, { ros2: true }));
  }
  await channel("json", "json", "Note", "jsonschema", '{"type":"object"}');
  await channel("bytes", "", "", "", "");
  for (let number = 0; number < 400; number++) {
    const messages = Object.entries(contents(number)).map(([topic, message]) => [topic, encoders[topic].writeMessage(message)]);
    messages.push(["json", Buffer.from(JSON.stringify({ number }))]);
    messages.push(["bytes", Uint8Array.from({ length: number % 200 }, (_, at) => at)]);
    for (const [at, [topic, data]] of messages.entries()) {
      // Out of order by fours.
      const logTime = BEGIN + BigInt(number ^ 3) * 1_000_000n + BigInt(at);
      const [sequence, publishTime] = [number + 1, logTime - 7n];
      await writer.addMessage({ channelId: channels[topic], sequence, logTime, publishTime, data });
      lines.push({ topic, sequence, log_time: `${logTime}`, publish_time: `${publishTime}`, data: hex(data) });
    }
  }
  await writer.end();
  file.close();
  writeFileSync(path.replace(/mcap$/, "jsonl"), lines.map((line) => JSON.stringify(line) + "\n").join(""));
}

const directory = process.argv[2];
await write(`${directory}/npm-none.mcap`, {});
await write(`${directory}/npm-unchunked.mcap`, { useChunks: false });
await write(`${directory}/npm-zstd.mcap`, {
  compressChunk: (data) => ({ compression: "zstd", compressedData: zstd.compress(data, 1) }),
});
