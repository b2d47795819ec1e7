"""Every operation of `/yard/v1`, by its name there.

Made of the OpenAPI document by `make docs`.
"""

from modelyard.client.operations.access import Access
from modelyard.client.operations.containers import Containers
from modelyard.client.operations.deployments import Deployments
from modelyard.client.operations.images import Images
from modelyard.client.operations.messages import Messages
from modelyard.client.operations.nodes import Nodes
from modelyard.client.operations.registries import Registries
from modelyard.client.operations.webhooks import Webhooks


class Operations(Access, Containers, Deployments, Images, Messages, Nodes, Registries, Webhooks):
    """All of them."""
