/// Nodes of what the mesh itself writes, as status: they come from no source.
extension YAMLNode {
  private static let start = SourcePosition(line: 1, column: 1)

  static func text(_ text: String) -> YAMLNode { YAMLNode(.string(text), at: start) }
  static func number(_ number: Int) -> YAMLNode { YAMLNode(.int(Int64(number)), at: start) }
  static func list(_ items: [YAMLNode]) -> YAMLNode { YAMLNode(.sequence(items), at: start) }
  static func map(_ entries: [(String, YAMLNode)]) -> YAMLNode {
    YAMLNode(.mapping(entries.map { YAMLEntry(key: $0.0, position: start, value: $0.1) }), at: start)
  }
}
