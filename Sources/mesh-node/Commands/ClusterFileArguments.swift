import Glibc
import Nodes
import Primitives

extension ClusterFile {
  /// Reads the file that `--config`, `$MESH_CONFIG` or the default names.
  static func load(_ arguments: Arguments) throws -> ClusterFile {
    let path = arguments.value("config") ?? getenv("MESH_CONFIG").map { String(cString: $0) } ?? "cluster.json"
    do { return try ClusterFile(readingFile: path) } catch { throw CommandFailure(error.description) }
  }

  /// The node that `--node` or `$MESH_NODE` names, else the first.
  func chosenNode(_ arguments: Arguments) throws -> Node {
    guard let name = arguments.value("node") ?? getenv("MESH_NODE").map({ String(cString: $0) }) else { return nodes[0] }
    guard let node = nodes.first(where: { $0.name.string == name }) else {
      let near = Spelling.nearest(to: name, among: nodes.map(\.name.string)).map { "; did you mean \($0)?" } ?? ""
      throw UsageError("\(path) has no node '\(name)'\(near) It has \(nodes.map(\.name.string).joined(separator: ", ")).")
    }
    return node
  }
}
