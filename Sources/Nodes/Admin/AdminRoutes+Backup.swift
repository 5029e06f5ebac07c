import Cluster
import Consensus
import HTTPCodec
import Primitives

extension AdminRoutes {
  /// The state as this node has applied it: consistent at one revision, on any node.
  func backup() -> HTTPResponse {
    let backup = Backup(
      cluster: node.cluster.local.cluster.string, node: node.cluster.local.name.string,
      milliseconds: node.parts.clock.milliseconds(), version: MeshVersion.version, state: node.cluster.view.control)
    return HTTPResponse(
      status: 200, headers: [HTTPField("content-type", "application/octet-stream")], body: backup.bytes)
  }
}
