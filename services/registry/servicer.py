"""RegistryService and AccessService on the wire: request to handler to response, nothing else."""

from collections.abc import Iterator

import grpc

from services.registry import convert_access, kinds
from services.registry.access_statement import AccessFeed
from services.registry.filters import before, equal, equal_number, valid_on
from services.registry.forms import division_code, identifier
from services.registry.handlers import RegistryHandlers
from services.registry.handlers_access import AccessHandlers
from services.registry.handlers_credentials import CredentialHandlers
from services.registry.store.credentials import CredentialFilter
from zhichao.access.v1 import service_pb2 as access_pb
from zhichao.access.v1 import service_pb2_grpc as access_pb2_grpc
from zhichao.registry.v1 import service_pb2 as pb
from zhichao.registry.v1 import service_pb2_grpc

_Context = grpc.ServicerContext


class RegistryServicer(service_pb2_grpc.RegistryServiceServicer):
    """Serves the registry."""

    def __init__(self, handlers: RegistryHandlers) -> None:
        self._handlers = handlers

    # Division

    def CreateDivision(self, request: pb.CreateDivisionRequest, context: _Context) -> pb.CreateDivisionResponse:
        return pb.CreateDivisionResponse(division=self._handlers.create(kinds.DIVISION, request.division))

    def GetDivision(self, request: pb.GetDivisionRequest, context: _Context) -> pb.GetDivisionResponse:
        return pb.GetDivisionResponse(division=self._handlers.get_division(request.division_code, request.valid_from))

    def ListDivisions(self, request: pb.ListDivisionsRequest, context: _Context) -> pb.ListDivisionsResponse:
        filters = [
            equal("parent_code", request.parent_code, division_code),
            valid_on("valid_on", request.valid_on, "valid_from", "valid_until"),
            equal("origin", request.origin, division_code),
        ]
        page = self._handlers.list_page(kinds.DIVISION, filters, request.page_size, request.page_token)
        return pb.ListDivisionsResponse(divisions=page.resources, next_page_token=page.next_page_token)

    def UpdateDivision(self, request: pb.UpdateDivisionRequest, context: _Context) -> pb.UpdateDivisionResponse:
        updated = self._handlers.update(kinds.DIVISION, request.division, request.update_mask.paths)
        return pb.UpdateDivisionResponse(division=updated)

    # Platform

    def CreatePlatform(self, request: pb.CreatePlatformRequest, context: _Context) -> pb.CreatePlatformResponse:
        return pb.CreatePlatformResponse(platform=self._handlers.create(kinds.PLATFORM, request.platform))

    def GetPlatform(self, request: pb.GetPlatformRequest, context: _Context) -> pb.GetPlatformResponse:
        return pb.GetPlatformResponse(platform=self._handlers.get_platform(request.platform_code))

    def ListPlatforms(self, request: pb.ListPlatformsRequest, context: _Context) -> pb.ListPlatformsResponse:
        filters = [
            equal("upstream_code", request.upstream_code, division_code),
            equal("origin", request.origin, division_code),
        ]
        page = self._handlers.list_page(kinds.PLATFORM, filters, request.page_size, request.page_token)
        return pb.ListPlatformsResponse(platforms=page.resources, next_page_token=page.next_page_token)

    def UpdatePlatform(self, request: pb.UpdatePlatformRequest, context: _Context) -> pb.UpdatePlatformResponse:
        updated = self._handlers.update(kinds.PLATFORM, request.platform, request.update_mask.paths)
        return pb.UpdatePlatformResponse(platform=updated)

    # SourceUnit

    def CreateSourceUnit(self, request: pb.CreateSourceUnitRequest, context: _Context) -> pb.CreateSourceUnitResponse:
        return pb.CreateSourceUnitResponse(source_unit=self._handlers.create(kinds.SOURCE_UNIT, request.source_unit))

    def GetSourceUnit(self, request: pb.GetSourceUnitRequest, context: _Context) -> pb.GetSourceUnitResponse:
        key = {"source_unit_id": request.source_unit_id}
        return pb.GetSourceUnitResponse(source_unit=self._handlers.get(kinds.SOURCE_UNIT, key, request.origin))

    def ListSourceUnits(self, request: pb.ListSourceUnitsRequest, context: _Context) -> pb.ListSourceUnitsResponse:
        filters = [
            equal("division_code", request.division_code, division_code),
            equal_number("kind", request.kind),
            equal_number("state", request.state),
            equal("origin", request.origin, division_code),
        ]
        page = self._handlers.list_page(kinds.SOURCE_UNIT, filters, request.page_size, request.page_token)
        return pb.ListSourceUnitsResponse(source_units=page.resources, next_page_token=page.next_page_token)

    def UpdateSourceUnit(self, request: pb.UpdateSourceUnitRequest, context: _Context) -> pb.UpdateSourceUnitResponse:
        updated = self._handlers.update(kinds.SOURCE_UNIT, request.source_unit, request.update_mask.paths)
        return pb.UpdateSourceUnitResponse(source_unit=updated)

    # WeighingPoint

    def CreateWeighingPoint(
        self, request: pb.CreateWeighingPointRequest, context: _Context
    ) -> pb.CreateWeighingPointResponse:
        return pb.CreateWeighingPointResponse(
            weighing_point=self._handlers.create(kinds.WEIGHING_POINT, request.weighing_point)
        )

    def GetWeighingPoint(self, request: pb.GetWeighingPointRequest, context: _Context) -> pb.GetWeighingPointResponse:
        key = {"source_unit_id": request.source_unit_id, "weighing_point_id": request.weighing_point_id}
        return pb.GetWeighingPointResponse(weighing_point=self._handlers.get(kinds.WEIGHING_POINT, key, request.origin))

    def ListWeighingPoints(
        self, request: pb.ListWeighingPointsRequest, context: _Context
    ) -> pb.ListWeighingPointsResponse:
        filters = [
            equal("source_unit_id", request.source_unit_id, identifier),
            equal("origin", request.origin, division_code),
        ]
        page = self._handlers.list_page(kinds.WEIGHING_POINT, filters, request.page_size, request.page_token)
        return pb.ListWeighingPointsResponse(weighing_points=page.resources, next_page_token=page.next_page_token)

    def UpdateWeighingPoint(
        self, request: pb.UpdateWeighingPointRequest, context: _Context
    ) -> pb.UpdateWeighingPointResponse:
        updated = self._handlers.update(kinds.WEIGHING_POINT, request.weighing_point, request.update_mask.paths)
        return pb.UpdateWeighingPointResponse(weighing_point=updated)

    # Scale

    def CreateScale(self, request: pb.CreateScaleRequest, context: _Context) -> pb.CreateScaleResponse:
        return pb.CreateScaleResponse(scale=self._handlers.create(kinds.SCALE, request.scale))

    def GetScale(self, request: pb.GetScaleRequest, context: _Context) -> pb.GetScaleResponse:
        key = {"source_unit_id": request.source_unit_id, "scale_id": request.scale_id}
        return pb.GetScaleResponse(scale=self._handlers.get(kinds.SCALE, key, request.origin))

    def ListScales(self, request: pb.ListScalesRequest, context: _Context) -> pb.ListScalesResponse:
        filters = [
            equal("source_unit_id", request.source_unit_id, identifier),
            equal("weighing_point_id", request.weighing_point_id, identifier),
            equal("origin", request.origin, division_code),
        ]
        page = self._handlers.list_page(kinds.SCALE, filters, request.page_size, request.page_token)
        return pb.ListScalesResponse(scales=page.resources, next_page_token=page.next_page_token)

    def UpdateScale(self, request: pb.UpdateScaleRequest, context: _Context) -> pb.UpdateScaleResponse:
        updated = self._handlers.update(kinds.SCALE, request.scale, request.update_mask.paths)
        return pb.UpdateScaleResponse(scale=updated)

    # VerificationCertificate

    def CreateVerificationCertificate(
        self, request: pb.CreateVerificationCertificateRequest, context: _Context
    ) -> pb.CreateVerificationCertificateResponse:
        return pb.CreateVerificationCertificateResponse(
            verification_certificate=self._handlers.create(
                kinds.VERIFICATION_CERTIFICATE, request.verification_certificate
            )
        )

    def GetVerificationCertificate(
        self, request: pb.GetVerificationCertificateRequest, context: _Context
    ) -> pb.GetVerificationCertificateResponse:
        key = {
            "source_unit_id": request.source_unit_id,
            "scale_id": request.scale_id,
            "certificate_number": request.certificate_number,
        }
        return pb.GetVerificationCertificateResponse(
            verification_certificate=self._handlers.get(kinds.VERIFICATION_CERTIFICATE, key, request.origin)
        )

    def ListVerificationCertificates(
        self, request: pb.ListVerificationCertificatesRequest, context: _Context
    ) -> pb.ListVerificationCertificatesResponse:
        filters = [
            equal("source_unit_id", request.source_unit_id, identifier),
            equal("scale_id", request.scale_id, identifier),
            before("expires_before", request.expires_before, "valid_until"),
            equal("origin", request.origin, division_code),
        ]
        page = self._handlers.list_page(kinds.VERIFICATION_CERTIFICATE, filters, request.page_size, request.page_token)
        return pb.ListVerificationCertificatesResponse(
            verification_certificates=page.resources, next_page_token=page.next_page_token
        )

    def UpdateVerificationCertificate(
        self, request: pb.UpdateVerificationCertificateRequest, context: _Context
    ) -> pb.UpdateVerificationCertificateResponse:
        updated = self._handlers.update(
            kinds.VERIFICATION_CERTIFICATE, request.verification_certificate, request.update_mask.paths
        )
        return pb.UpdateVerificationCertificateResponse(verification_certificate=updated)

    # RuleSet

    def CreateRuleSet(self, request: pb.CreateRuleSetRequest, context: _Context) -> pb.CreateRuleSetResponse:
        return pb.CreateRuleSetResponse(rule_set=self._handlers.create(kinds.RULE_SET, request.rule_set))

    def GetRuleSet(self, request: pb.GetRuleSetRequest, context: _Context) -> pb.GetRuleSetResponse:
        key = {"rule_set_id": request.rule_set_id} | ({"version": request.version} if request.version else {})
        return pb.GetRuleSetResponse(rule_set=self._handlers.get(kinds.RULE_SET, key, request.origin))

    def ListRuleSets(self, request: pb.ListRuleSetsRequest, context: _Context) -> pb.ListRuleSetsResponse:
        filters = [
            valid_on("effective_on", request.effective_on, "effective_from", "effective_until"),
            equal("origin", request.origin, division_code),
        ]
        page = self._handlers.list_page(kinds.RULE_SET, filters, request.page_size, request.page_token)
        return pb.ListRuleSetsResponse(rule_sets=page.resources, next_page_token=page.next_page_token)


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Serves credentials, and what decides who may do what."""

    def __init__(self, credentials: CredentialHandlers, access: AccessHandlers, feed: AccessFeed) -> None:
        self._credentials = credentials
        self._access = access
        self._feed = feed

    def CreateCredential(
        self, request: access_pb.CreateCredentialRequest, context: _Context
    ) -> access_pb.CreateCredentialResponse:
        issued = self._credentials.create(request.credential, is_certificate_only=request.is_certificate_only)
        return access_pb.CreateCredentialResponse(
            credential=issued.credential, token=issued.token, certificate_uri=issued.certificate_uri
        )

    def GetCredential(
        self, request: access_pb.GetCredentialRequest, context: _Context
    ) -> access_pb.GetCredentialResponse:
        return access_pb.GetCredentialResponse(credential=self._access.get(request.credential_id, request.origin))

    def ListCredentials(
        self, request: access_pb.ListCredentialsRequest, context: _Context
    ) -> access_pb.ListCredentialsResponse:
        wanted = CredentialFilter(request.origin, request.kind, request.source_unit_id, request.role)
        page = self._access.list_page(
            wanted, request.page_size, request.page_token, includes_ended=request.include_ended
        )
        return access_pb.ListCredentialsResponse(credentials=page.credentials, next_page_token=page.next_page_token)

    def UpdateCredential(
        self, request: access_pb.UpdateCredentialRequest, context: _Context
    ) -> access_pb.UpdateCredentialResponse:
        updated = self._credentials.update(request.credential, request.update_mask.paths)
        return access_pb.UpdateCredentialResponse(credential=updated)

    def RotateCredential(
        self, request: access_pb.RotateCredentialRequest, context: _Context
    ) -> access_pb.RotateCredentialResponse:
        overlap = request.overlap if request.HasField("overlap") else None
        rotated = self._credentials.rotate(request.credential_id, overlap)
        return access_pb.RotateCredentialResponse(
            credential=rotated.credential,
            token=rotated.token,
            former_expire_time=convert_access.timestamp(rotated.former_expire_time),
        )

    def RevokeCredential(
        self, request: access_pb.RevokeCredentialRequest, context: _Context
    ) -> access_pb.RevokeCredentialResponse:
        credential, effective_time = self._credentials.revoke(request.credential_id, request.reason)
        return access_pb.RevokeCredentialResponse(
            credential=credential, effective_time=convert_access.timestamp(effective_time)
        )

    def GetIdentity(self, request: access_pb.GetIdentityRequest, context: _Context) -> access_pb.GetIdentityResponse:
        identity = self._access.identity()
        return convert_access.identity_response(identity.platform, identity.principal, identity.expire_time)

    def WatchAccess(
        self, request: access_pb.WatchAccessRequest, context: _Context
    ) -> Iterator[access_pb.WatchAccessResponse]:
        yield from self._feed.watch()

    def ReportUse(self, request: access_pb.ReportUseRequest, context: _Context) -> access_pb.ReportUseResponse:
        self._access.report_use(convert_access.uses(request.uses), len(request.uses))
        return access_pb.ReportUseResponse()
