"""What registries, and addresses that users give, say or fail to say."""

from __future__ import annotations

from pipeline.errors.base import YardError


class RegistryError(YardError):
    code = "registry_error"


class RegistryDenied(RegistryError):
    """401 or 403: the image may be private or absent; never read as absent."""

    code = "registry_denied"


class ManifestNotFound(RegistryError):
    code = "manifest_not_found"


class RegistryProtocolError(RegistryError):
    """It answered, but not as an OCI registry does."""

    code = "registry_protocol_error"


class RegistryUnavailable(RegistryError):
    """No answer, a timeout, 5xx, or 429 (`facts["retry_after_s"]`)."""

    code = "registry_unavailable"
    retryable = True


class AddressRefused(YardError):
    """The address guard refused to contact it."""

    code = "address_refused"
