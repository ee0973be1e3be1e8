// Two officials with matrix-js-sdk, one at each agency: in, create, invite across, join, send both ways,
// receive by sync, leave; then the same words end-to-end encrypted.  Prints TAP.
// Standard input: {"alpha": {"url", "login": {...as POST /login wants it} | "access_token", "user_id", "device_id"}, "beta": ...}
// The certificate authority of the servers is in NODE_EXTRA_CA_CERTS.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The pinned packages are under var/, not beside this file.
const require = createRequire(process.env.CHANCERY_NODE_MODULES + "/");
// The client's own talk would drown the results; it binds the console's functions when it is loaded.
if (!process.env.CHANCERY_VERBOSE) {
    for (const name of ["log", "info", "debug", "warn", "error", "trace"]) {
        globalThis.console[name] = () => {};
    }
}
const sdk = await import(pathToFileURL(require.resolve("matrix-js-sdk")));
const print = (line) => process.stdout.write(line + "\n");

const LIMIT_MS = 60_000;
let number = 0;
let failed = 0;

async function step(name, work) {
    number += 1;
    let timer;
    try {
        const limit = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error(`not within ${LIMIT_MS} ms`)), LIMIT_MS);
        });
        const result = await Promise.race([work(), limit]);
        print(`ok ${number} matrix-js-sdk: ${name}`);
        return result;
    } catch (error) {
        failed += 1;
        print(`not ok ${number} matrix-js-sdk: ${name}`);
        print(`# ${String(error?.stack ?? error).replaceAll("\n", "\n# ")}`);
        throw error;
    } finally {
        clearTimeout(timer);
    }
}

// Resolve with the first event of @emitter that @accept likes; what is already there counts through @now.
function seen(emitter, event, accept, now = () => undefined) {
    const here = now();
    if (here !== undefined) {
        return Promise.resolve(here);
    }
    return new Promise((resolve) => {
        const listener = (...args) => {
            if (accept(...args)) {
                emitter.off(event, listener);
                resolve(args[0]);
            }
        };
        emitter.on(event, listener);
    });
}

async function client(agency) {
    let session = agency;
    if (agency.login) {
        const anonymous = sdk.createClient({ baseUrl: agency.url });
        const flows = await anonymous.loginFlows();
        if (!flows.flows.some((flow) => flow.type === "m.login.sso")) {
            throw new Error(`no m.login.sso among ${JSON.stringify(flows)}`);
        }
        session = await anonymous.loginRequest(agency.login);
    }
    const made = sdk.createClient({
        baseUrl: agency.url,
        accessToken: session.access_token,
        userId: session.user_id,
        deviceId: session.device_id,
    });
    const whoami = await made.whoami();
    if (whoami.user_id !== session.user_id || whoami.device_id !== session.device_id) {
        throw new Error(`whoami says ${JSON.stringify(whoami)}`);
    }
    return made;
}

async function startSync(made) {
    const prepared = seen(made, sdk.ClientEvent.Sync, (state) => state === "PREPARED");
    await made.startClient({ initialSyncLimit: 20, lazyLoadMembers: true });
    await prepared;
}

const membershipOf = (made, roomId) => made.getRoom(roomId)?.getMyMembership();

const waitMembership = (made, roomId, membership) =>
    seen(
        made,
        sdk.RoomEvent.MyMembership,
        (room, now) => room.roomId === roomId && now === membership,
        () => (membershipOf(made, roomId) === membership ? membership : undefined),
    );

const waitMessage = (made, roomId, body) => {
    const is = (event) =>
        event.getRoomId() === roomId && event.getType() === "m.room.message" && event.getContent().body === body;
    const here = () =>
        made
            .getRoom(roomId)
            ?.getLiveTimeline()
            .getEvents()
            .find((event) => is(event));
    return Promise.race([
        seen(made, sdk.RoomEvent.Timeline, is, here),
        seen(made, sdk.MatrixEventEvent.Decrypted, is, here),
    ]);
};

async function conversation(alpha, beta, words, initialState) {
    const created = await step(`alpha creates a room${words}`, () =>
        alpha.createRoom({ preset: "private_chat", name: `Matters${words}`, initial_state: initialState }),
    );
    const roomId = created.room_id;
    await step(`alpha invites across, beta sees the invitation${words}`, async () => {
        await alpha.invite(roomId, beta.getUserId());
        await waitMembership(beta, roomId, "invite");
    });
    await step(`beta joins, alpha sees the join${words}`, async () => {
        await beta.joinRoom(roomId, { viaServers: [alpha.getDomain()] });
        await waitMembership(beta, roomId, "join");
        await seen(
            alpha,
            sdk.RoomStateEvent.Members,
            (event, _, member) => member.userId === beta.getUserId() && member.membership === "join",
            () => (alpha.getRoom(roomId)?.getMember(beta.getUserId())?.membership === "join" ? true : undefined),
        );
    });
    await step(`alpha's message reaches beta${words}`, async () => {
        const arrived = waitMessage(beta, roomId, `from alpha${words}`);
        await alpha.sendTextMessage(roomId, `from alpha${words}`);
        await arrived;
    });
    await step(`beta's message reaches alpha${words}`, async () => {
        const arrived = waitMessage(alpha, roomId, `from beta${words}`);
        await beta.sendTextMessage(roomId, `from beta${words}`);
        await arrived;
    });
    return roomId;
}

const agencies = JSON.parse(readFileSync(0, "utf8"));
let alpha;
let beta;
try {
    alpha = await step("alpha's official is in", () => client(agencies.alpha));
    beta = await step("beta's official is in", () => client(agencies.beta));
    await step("a wrong token is told M_UNKNOWN_TOKEN", async () => {
        const stranger = sdk.createClient({ baseUrl: agencies.alpha.url, accessToken: "wrong" });
        const error = await stranger.whoami().then(
            () => undefined,
            (caught) => caught,
        );
        if (error?.errcode !== "M_UNKNOWN_TOKEN") {
            throw new Error(`told ${JSON.stringify(error?.data)}`);
        }
    });
    await step("both have keys for end-to-end encryption", async () => {
        await alpha.initRustCrypto({ useIndexedDB: false });
        await beta.initRustCrypto({ useIndexedDB: false });
    });
    await step("both sync", () => Promise.all([startSync(alpha), startSync(beta)]));
    const plain = await conversation(alpha, beta, "", []);
    await conversation(alpha, beta, ", encrypted", [
        { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
    ]);
    await step("beta leaves, alpha sees it", async () => {
        const left = seen(
            alpha,
            sdk.RoomStateEvent.Members,
            (event, _, member) => member.userId === beta.getUserId() && member.membership === "leave",
        );
        await beta.leave(plain);
        await left;
    });
    await step("both log out, and their tokens are dead", async () => {
        for (const made of [alpha, beta]) {
            await made.logout(true);
            const error = await made.whoami().then(
                () => undefined,
                (caught) => caught,
            );
            if (error?.errcode !== "M_UNKNOWN_TOKEN") {
                throw new Error(`told ${JSON.stringify(error?.data)}`);
            }
        }
    });
} catch {
    // told above
}
alpha?.stopClient();
beta?.stopClient();
print(`1..${number}`);
process.exit(failed ? 1 : 0);
