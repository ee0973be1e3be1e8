"""Ed25519 keys as Matrix devices have them, by libsodium."""

import base64
import ctypes
import json
import secrets

_sodium = ctypes.CDLL("libsodium.so.23")
_sodium.sodium_init()


def canonical(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def unpadded(data):
    return base64.b64encode(data).decode().rstrip("=")


class SigningKey:
    def __init__(self):
        public, self._secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
        _sodium.crypto_sign_keypair(public, self._secret)
        self.public = unpadded(public.raw)

    def signature(self, value):
        signed = {key: value[key] for key in value if key not in ("signatures", "unsigned")}
        message, out = canonical(signed), ctypes.create_string_buffer(64)
        _sodium.crypto_sign_detached(out, None, message, ctypes.c_ulonglong(len(message)), self._secret)
        return unpadded(out.raw)

    def sign(self, value, user_id, name=None):
        """@value with our signature added, under ed25519:@name (else our public key)."""
        signatures = {signer: dict(keys) for signer, keys in value.get("signatures", {}).items()}
        signatures.setdefault(user_id, {})[f"ed25519:{name or self.public}"] = self.signature(value)
        return {**value, "signatures": signatures}


class Device:
    """The keys of one device of @person (its user_id and device_id)."""

    def __init__(self, person):
        self.person, self.key = person, SigningKey()
        self.curve = unpadded(secrets.token_bytes(32))
        self.made = 0

    def keys(self):
        user_id, device_id = self.person.user_id, self.person.device_id
        return self.key.sign(
            {
                "user_id": user_id, "device_id": device_id,
                "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
                "keys": {f"curve25519:{device_id}": self.curve, f"ed25519:{device_id}": self.key.public},
            },
            user_id, device_id,
        )  # fmt: skip

    def one_time_key(self, **more):
        return self.key.sign(
            {"key": unpadded(secrets.token_bytes(32)), **more}, self.person.user_id, self.person.device_id
        )

    def one_time_keys(self, count):
        """{name: key}, the names in order."""
        self.made += count
        return {f"signed_curve25519:K{self.made - count + i:05}": self.one_time_key() for i in range(count)}

    def upload(self, **more):
        return self.person.post("keys/upload", {"device_keys": self.keys(), **more})


class CrossSigning:
    """The three cross-signing keys of a user."""

    def __init__(self, user_id):
        self.user_id = user_id
        self.master, self.self_signing, self.user_signing = SigningKey(), SigningKey(), SigningKey()

    def _body(self, usage, key):
        return {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{key.public}": key.public}}

    def master_key(self):
        return self._body("master", self.master)

    def upload(self):
        return {
            "master_key": self.master_key(),
            "self_signing_key": self.master.sign(self._body("self_signing", self.self_signing), self.user_id),
            "user_signing_key": self.master.sign(self._body("user_signing", self.user_signing), self.user_id),
        }
