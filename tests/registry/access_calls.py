"""The RPCs of AccessService, called by the security administrator unless a test says who calls."""

from typing import Any

import grpc

from tests.registry.harness import TIMEOUT_SECONDS, Refused, RunningRegistry, refused_by
from zhichao.access.v1 import credential_pb2, service_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub


class Access:
    """AccessService as somebody with a token calls it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = AccessServiceStub(channel)

    @classmethod
    def of(cls, registry: RunningRegistry, token: str | None = None) -> "Access":
        return cls(registry.channel(registry.admin_token if token is None else token))

    def create(self, credential: credential_pb2.Credential, **fields: Any) -> service_pb2.CreateCredentialResponse:
        request = service_pb2.CreateCredentialRequest(credential=credential, **fields)
        return self.stub.CreateCredential(request, timeout=TIMEOUT_SECONDS)

    def refused_create(self, credential: credential_pb2.Credential, **fields: Any) -> Refused:
        request = service_pb2.CreateCredentialRequest(credential=credential, **fields)
        return refused_by(self.stub, "CreateCredential", request)

    def get(self, credential_id: str, origin: str = "") -> credential_pb2.Credential:
        request = service_pb2.GetCredentialRequest(credential_id=credential_id, origin=origin)
        return self.stub.GetCredential(request, timeout=TIMEOUT_SECONDS).credential

    def refused_get(self, credential_id: str, origin: str = "") -> Refused:
        request = service_pb2.GetCredentialRequest(credential_id=credential_id, origin=origin)
        return refused_by(self.stub, "GetCredential", request)

    def update(self, credential: credential_pb2.Credential, *paths: str) -> credential_pb2.Credential:
        return self.stub.UpdateCredential(_update(credential, paths), timeout=TIMEOUT_SECONDS).credential

    def refused_update(self, credential: credential_pb2.Credential, *paths: str) -> Refused:
        return refused_by(self.stub, "UpdateCredential", _update(credential, paths))

    def rotate(self, credential_id: str, overlap_seconds: int | None = None) -> service_pb2.RotateCredentialResponse:
        return self.stub.RotateCredential(_rotate(credential_id, overlap_seconds), timeout=TIMEOUT_SECONDS)

    def refused_rotate(self, credential_id: str, overlap_seconds: int | None = None) -> Refused:
        return refused_by(self.stub, "RotateCredential", _rotate(credential_id, overlap_seconds))

    def revoke(self, credential_id: str, reason: str = "遗失") -> service_pb2.RevokeCredentialResponse:
        request = service_pb2.RevokeCredentialRequest(credential_id=credential_id, reason=reason)
        return self.stub.RevokeCredential(request, timeout=TIMEOUT_SECONDS)

    def refused_revoke(self, credential_id: str, reason: str = "遗失") -> Refused:
        request = service_pb2.RevokeCredentialRequest(credential_id=credential_id, reason=reason)
        return refused_by(self.stub, "RevokeCredential", request)

    def list_all(self, page_size: int = 0, **filters: Any) -> list[credential_pb2.Credential]:
        """Read all pages."""
        found: list[credential_pb2.Credential] = []
        token = ""
        while True:
            request = service_pb2.ListCredentialsRequest(page_size=page_size, page_token=token, **filters)
            answer = self.stub.ListCredentials(request, timeout=TIMEOUT_SECONDS)
            found += answer.credentials
            token = answer.next_page_token
            if not token:
                return found

    def ids(self, **filters: Any) -> list[str]:
        """Return the ids that a list names."""
        return [credential.credential_id for credential in self.list_all(**filters)]

    def identity(self) -> service_pb2.GetIdentityResponse:
        return self.stub.GetIdentity(service_pb2.GetIdentityRequest(), timeout=TIMEOUT_SECONDS)

    def refused_identity(self) -> Refused:
        """Say how somebody is refused who may not even ask who it is."""
        return refused_by(self.stub, "GetIdentity", service_pb2.GetIdentityRequest())


def _update(credential: credential_pb2.Credential, paths: tuple[str, ...]) -> service_pb2.UpdateCredentialRequest:
    request = service_pb2.UpdateCredentialRequest(credential=credential)
    request.update_mask.paths.extend(paths)
    return request


def _rotate(credential_id: str, overlap_seconds: int | None) -> service_pb2.RotateCredentialRequest:
    request = service_pb2.RotateCredentialRequest(credential_id=credential_id)
    if overlap_seconds is not None:
        request.overlap.seconds = overlap_seconds
    return request
