// Drives a running emulator: its controls, its agents, and a receiver for its webhooks.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

export class Emulator {
  constructor(url) {
    this.url = url;
  }

  async control(method, path, body) {
    const response = await fetch(`${this.url}/_emulator${path}`, {
      method,
      headers: { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    const text = await response.text();
    return text ? JSON.parse(text) : undefined;
  }

  queue(job) {
    return this.control("POST", "/jobs", job);
  }

  branch(branch) {
    return this.control("PUT", "/branches", branch);
  }

  /** Opens an agent's session with a JIT config and waits for its job. */
  async agent(encoded) {
    const unpack = (text) => JSON.parse(Buffer.from(text, "base64").toString());
    const files = unpack(encoded);
    const settings = unpack(files[".runner"]);
    const token = unpack(files[".credentials"]).data.token;
    const call = (method, path, body) =>
      fetch(`${settings.serverUrl}/_agent${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: body && JSON.stringify(body),
      });
    const { sessionId } = await (await call("POST", "/sessions", {})).json();
    const message = await (await call("GET", `/sessions/${sessionId}/message?wait=10`)).json();
    return {
      settings,
      message,
      complete: (conclusion) => call("POST", `/sessions/${sessionId}/jobs/${message.jobId}/complete`, { conclusion }),
    };
  }
}

/** A receiver that checks signatures with node's own crypto. */
export class Receiver {
  constructor(secret) {
    this.secret = secret;
    this.seen = [];
    this.bad = [];
  }

  async start() {
    this.server = createServer((request, response) => {
      const chunks = [];
      request.on("data", (chunk) => chunks.push(chunk));
      request.on("end", () => {
        const raw = Buffer.concat(chunks);
        const expected = `sha256=${createHmac("sha256", this.secret).update(raw).digest("hex")}`;
        const given = request.headers["x-hub-signature-256"] ?? "";
        if (given.length !== expected.length || !timingSafeEqual(Buffer.from(given), Buffer.from(expected))) {
          this.bad.push(request.headers["x-github-delivery"]);
        }
        this.seen.push({ event: request.headers["x-github-event"], payload: JSON.parse(raw.toString()) });
        response.writeHead(200, { "content-type": "text/plain" }).end("ok");
      });
    });
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}/hook`;
  }

  async waitFor(wanted, what) {
    for (let tries = 0; tries < 400; tries++) {
      const found = this.seen.filter(wanted);
      if (found.length > 0) return found;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`${what} did not come; there were ${JSON.stringify(this.seen.map((one) => [one.event, one.payload.action]))}`);
  }

  stop() {
    this.server.close();
    // The emulator keeps its connections open, and node would wait for them.
    this.server.closeAllConnections();
  }
}
