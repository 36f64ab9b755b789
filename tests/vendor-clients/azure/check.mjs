// Drives the Azure emulator with Microsoft's own management client: what its deserialisers, pager and pollers accept is
// what Azure would send. Started by `tests/emulators/azure/tests/azure/vendor.rs`, which serves the emulator over TLS, for the
// client sends no token otherwise.

import assert from "node:assert/strict";
import { ContainerInstanceManagementClient } from "@azure/arm-containerinstance";

const endpoint = process.env.ARM_ENDPOINT;
const subscription = "00000000-0000-0000-0000-000000000001";
const group = "runners";
const poll = { updateIntervalInMs: 20 };

const credential = {
  async getToken() {
    const url = `${process.env.IDENTITY_ENDPOINT}?api-version=2019-08-01&resource=https://management.azure.com`;
    const answer = await fetch(url, { headers: { "X-IDENTITY-HEADER": process.env.IDENTITY_HEADER } });
    const body = await answer.json();
    return { token: body.access_token, expiresOnTimestamp: Number(body.expires_on) * 1000 };
  },
};
const client = new ContainerInstanceManagementClient(credential, subscription, {
  endpoint,
  retryOptions: { maxRetries: 0 },
});
const groups = client.containerGroups;

const wanted = (image, extra = {}) => ({
  location: "westeurope",
  osType: "Linux",
  restartPolicy: "Never",
  tags: { UID: "an-uid", NodeName: "virtual-node-aci-linux" },
  containers: [
    {
      name: "runner",
      image,
      resources: { requests: { cpu: 1, memoryInGB: 1.5 } },
      environmentVariables: [{ name: "SECRET", secureValue: "hidden" }],
      volumeMounts: [{ name: "stint", mountPath: "/run/stint" }],
    },
  ],
  volumes: [{ name: "stint", secret: { jitconfig: "c2VjcmV0" } }],
  ...extra,
});

async function collect(pages) {
  const all = [];
  for await (const item of pages) all.push(item);
  return all;
}

async function until(name, done) {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    const found = await groups.get(group, name);
    if (done(found)) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${name} did not get there`);
}

const checks = {
  async "create, and follow the operation to its end"() {
    const created = await groups.beginCreateOrUpdateAndWait(group, "one", wanted("ok:1"), poll);
    assert.equal(created.provisioningState, "Succeeded");
    assert.equal(created.tags.UID, "an-uid");
    const ended = await until("one", (found) => found.instanceView.state === "Succeeded");
    const view = ended.containers[0].instanceView;
    assert.equal(view.currentState.state, "Terminated");
    assert.equal(view.currentState.exitCode, 0);
    assert.ok(view.currentState.startTime instanceof Date && view.currentState.finishTime instanceof Date);
    assert.ok(view.events[0].firstTimestamp instanceof Date);
    assert.deepEqual(view.events.map((event) => event.name), ["Pulling", "Pulled", "Created", "Started"]);
    assert.equal(ended.containers[0].environmentVariables[0].secureValue, undefined);
    assert.deepEqual(ended.volumes[0].secret, {});
  },

  async "read the logs"() {
    const logs = await client.containers.listLogs(group, "one", "runner", { tail: 10, timestamps: false });
    assert.equal(logs.content, "hello\n");
  },

  async "page through lists"() {
    for (const name of ["two", "three"]) await groups.beginCreateOrUpdate(group, name, wanted("sleeps:1"), poll);
    const names = (list) => list.map((found) => found.name).sort();
    const listed = await collect(groups.listByResourceGroup(group));
    assert.deepEqual(names(listed), ["one", "three", "two"]);
    assert.ok(listed.every((found) => found.instanceView === undefined));
    assert.deepEqual(names(await collect(groups.list())), ["one", "three", "two"]);
  },

  async "update tags"() {
    const updated = await groups.update(group, "one", { tags: { changed: "yes" } });
    assert.deepEqual(updated.tags, { changed: "yes" });
  },

  async "stop, start and restart"() {
    await until("two", (found) => found.instanceView.state === "Running");
    await groups.stop(group, "two");
    await until("two", (found) => found.instanceView.state === "Stopped");
    await groups.beginStartAndWait(group, "two", poll);
    await until("two", (found) => found.instanceView.state === "Running");
    await groups.beginRestartAndWait(group, "two", poll);
    await until("two", (found) => found.instanceView.state === "Running");
  },

  async "delete, and follow the operation to its end"() {
    await groups.beginDeleteAndWait(group, "two", poll);
    await assert.rejects(groups.get(group, "two"), { statusCode: 404, code: "ResourceNotFound" });
    await groups.beginDeleteAndWait(group, "absent", poll);
  },

  async "look at a location"() {
    const usages = await collect(client.location.listUsage("westeurope"));
    const of = (name) => usages.find((usage) => usage.name.value === name);
    assert.deepEqual([of("ContainerGroups").currentValue, of("ContainerGroups").limit], [2, 100]);
    assert.equal(of("StandardCores").currentValue, 1);
    const capabilities = await collect(client.location.listCapabilities("westeurope"));
    assert.equal(capabilities[0].capabilities.maxCpu, 31);
    assert.deepEqual(await collect(client.location.listCachedImages("westeurope")), []);
  },

  async "be refused with ARM's codes"() {
    const refused = (name, body, statusCode, code) =>
      assert.rejects(groups.beginCreateOrUpdate(group, name, body, poll), { statusCode, code });
    const twice = [{ name: "stint", emptyDir: {} }, { name: "stint", emptyDir: {} }];
    await refused("four", wanted("ok:1", { volumes: twice }), 400, "DuplicateVolumes");
    await refused("three", wanted("private:1"), 400, "InaccessibleImage");
    await refused("Capital", wanted("ok:1"), 400, "InvalidContainerGroupName");
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok   ${name}`);
  } catch (error) {
    console.error(`FAIL ${name}\n${error.stack}\n${error.cause ?? ""}`);
    process.exit(1);
  }
}
