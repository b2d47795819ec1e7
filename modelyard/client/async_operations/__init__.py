"""Every operation of `/yard/v1`, by its name there.

Made of the OpenAPI document by `make docs`.
"""

from modelyard.client.async_operations.access import AsyncAccess
from modelyard.client.async_operations.containers import AsyncContainers
from modelyard.client.async_operations.deployments import AsyncDeployments
from modelyard.client.async_operations.images import AsyncImages
from modelyard.client.async_operations.messages import AsyncMessages
from modelyard.client.async_operations.nodes import AsyncNodes
from modelyard.client.async_operations.registries import AsyncRegistries
from modelyard.client.async_operations.webhooks import AsyncWebhooks


class AsyncOperations(
    AsyncAccess,
    AsyncContainers,
    AsyncDeployments,
    AsyncImages,
    AsyncMessages,
    AsyncNodes,
    AsyncRegistries,
    AsyncWebhooks,
):
    """All of them."""
