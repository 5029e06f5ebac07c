import CYAML

/// Parses a stream of YAML documents into trees, with bounds on bytes, depth, nodes and alias expansion.
///
/// JSON is YAML, so this reads both. The tree is built from libyaml's events; libyaml's pointers do not leave this file.
public enum YAMLParser {
  /// The documents of `bytes` up to the first error, and that error. Empty documents are left out.
  public static func parse(_ bytes: [UInt8]) -> (documents: [YAMLNode], error: YAMLError?) {
    let start = SourcePosition(line: 1, column: 1)
    guard bytes.count <= ConfigLimits.sourceBytesMax else {
      let reason = "the source has \(bytes.count) bytes; at most \(ConfigLimits.sourceBytesMax) are accepted: split it"
      return ([], YAMLError(at: start, reason))
    }
    guard String(validating: bytes, as: UTF8.self) != nil else {
      return ([], YAMLError(at: invalidUTF8Position(bytes), "not valid UTF-8"))
    }
    var text = bytes
    var result = build(text)
    for _ in 0..<FlowAddress.repairsMax {
      guard let error = result.error, FlowAddress.quote(in: &text, line: error.position.line) else { break }
      result = build(text)
    }
    return result
  }

  private static func build(_ bytes: [UInt8]) -> (documents: [YAMLNode], error: YAMLError?) {
    var builder = TreeBuilder()
    do throws(YAMLError) {
      try EventSource.forEach(in: bytes) { (event, position) throws(YAMLError) in try builder.handle(event, at: position) }
    } catch {
      return (builder.documents, error)
    }
    return (builder.documents, nil)
  }

  private static func invalidUTF8Position(_ bytes: [UInt8]) -> SourcePosition {
    var line = 1
    for chunk in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
      if String(validating: chunk, as: UTF8.self) == nil { return SourcePosition(line: line, column: 1) }
      line += 1
    }
    return SourcePosition(line: line, column: 1)
  }
}

/// One parsing event in Swift values.
private enum Event {
  case documentEnd
  case alias(String)
  case scalar(String, tag: String?, plain: Bool, anchor: String?)
  case open(isMapping: Bool, anchor: String?)
  case close
  case other
}

/// Drives libyaml over a buffer.
private enum EventSource {
  static func forEach(
    in bytes: [UInt8], _ body: (Event, SourcePosition) throws(YAMLError) -> Void
  ) throws(YAMLError) {
    var parser = yaml_parser_t()
    guard yaml_parser_initialize(&parser) == 1 else {
      throw YAMLError(at: SourcePosition(line: 1, column: 1), "no memory for a YAML parser")
    }
    defer { yaml_parser_delete(&parser) }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING)
    // libyaml keeps the pointer between calls, so the whole walk happens while the buffer is pinned.
    let result = bytes.withUnsafeBufferPointer { buffer -> Result<Void, YAMLError> in
      var nothing: UInt8 = 0
      return withUnsafePointer(to: &nothing) { empty in
        yaml_parser_set_input_string(&parser, buffer.baseAddress ?? empty, buffer.count)
        do throws(YAMLError) {
          while try step(&parser, body) {}
          return .success(())
        } catch {
          return .failure(error)
        }
      }
    }
    try result.get()
  }

  private static func step(
    _ parser: inout yaml_parser_t, _ body: (Event, SourcePosition) throws(YAMLError) -> Void
  ) throws(YAMLError) -> Bool {
    var event = yaml_event_t()
    guard yaml_parser_parse(&parser, &event) == 1 else { throw syntaxError(parser) }
    defer { yaml_event_delete(&event) }
    let position = SourcePosition(event.start_mark)
    switch event.type {
    case YAML_STREAM_END_EVENT, YAML_NO_EVENT:
      return false
    case YAML_DOCUMENT_END_EVENT:
      try body(.documentEnd, position)
    case YAML_ALIAS_EVENT:
      try body(.alias(text(event.data.alias.anchor) ?? ""), position)
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
      guard bytes.count <= ConfigLimits.scalarBytesMax else {
        throw YAMLError(at: position, "a value of \(bytes.count) bytes; at most \(ConfigLimits.scalarBytesMax) are accepted")
      }
      let value = String(decoding: bytes, as: UTF8.self)
      let plain = scalar.style == YAML_PLAIN_SCALAR_STYLE
      try body(.scalar(value, tag: text(scalar.tag), plain: plain, anchor: text(scalar.anchor)), position)
    case YAML_SEQUENCE_START_EVENT:
      try body(.open(isMapping: false, anchor: text(event.data.sequence_start.anchor)), position)
    case YAML_MAPPING_START_EVENT:
      try body(.open(isMapping: true, anchor: text(event.data.mapping_start.anchor)), position)
    case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT:
      try body(.close, position)
    default:
      try body(.other, position)
    }
    return true
  }

  private static func text(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
    pointer.map { String(cString: $0) }
  }

  private static func syntaxError(_ parser: yaml_parser_t) -> YAMLError {
    let problem = parser.problem.map { String(cString: $0) } ?? "not valid YAML"
    let context = parser.context.map { " " + String(cString: $0) } ?? ""
    return YAMLError(at: SourcePosition(parser.problem_mark), problem + context)
  }
}

extension SourcePosition {
  fileprivate init(_ mark: yaml_mark_t) {
    self.init(line: Int(clamping: mark.line) + 1, column: Int(clamping: mark.column) + 1)
  }
}

/// Builds trees from events on an explicit stack.
private struct TreeBuilder {
  private struct Open {
    let position: SourcePosition
    let isMapping: Bool
    let anchor: String?
    /// Nodes of the tree when this opened, to know how many the finished node holds.
    let nodesBefore: Int
    var items: [YAMLNode] = []
    var entries: [YAMLEntry] = []
    var keys: Set<String> = []
    var pendingKey: (text: String, position: SourcePosition)?
  }
  private struct Anchor {
    let node: YAMLNode
    let nodes: Int
  }

  private(set) var documents: [YAMLNode] = []
  private var stack: [Open] = []
  private var root: YAMLNode?
  private var anchors: [String: Anchor] = [:]
  private var nodes = 0

  mutating func handle(_ event: Event, at position: SourcePosition) throws(YAMLError) {
    switch event {
    case .other: return
    case .documentEnd: try endDocument(at: position)
    case .open(let isMapping, let anchor):
      guard stack.count < ConfigLimits.depthMax else {
        throw YAMLError(at: position, "nested more than \(ConfigLimits.depthMax) levels deep")
      }
      if expectsKey {
        throw YAMLError(at: position, "a mapping key must be a string")
      }
      stack.append(Open(position: position, isMapping: isMapping, anchor: anchor, nodesBefore: nodes))
      try count(1, at: position)
    case .close: try close(at: position)
    case .scalar(let text, let tag, let plain, let anchor):
      try scalar(text, tag: tag, plain: plain, anchor: anchor, at: position)
    case .alias(let name):
      guard let anchor = anchors[name] else {
        throw YAMLError(at: position, "the alias *\(name.prefix(60)) names no finished anchor")
      }
      try count(anchor.nodes, at: position)
      try add(anchor.node, at: position)
    }
  }

  /// Whether the next node is a key of the innermost mapping. (A copy of that mapping would make every insertion copy it.)
  private var expectsKey: Bool {
    guard let top = stack.indices.last else { return false }
    return stack[top].isMapping && stack[top].pendingKey == nil
  }

  private mutating func count(_ more: Int, at position: SourcePosition) throws(YAMLError) {
    nodes += more
    guard nodes <= ConfigLimits.nodesMax else {
      throw YAMLError(at: position, "more than \(ConfigLimits.nodesMax) values (aliases count as what they stand for)")
    }
  }

  private mutating func endDocument(at position: SourcePosition) throws(YAMLError) {
    defer {
      root = nil
      anchors.removeAll()
    }
    guard let root else { return }
    if case .null = root.value { return }
    guard documents.count < ConfigLimits.documentsMax else {
      throw YAMLError(at: position, "more than \(ConfigLimits.documentsMax) documents in one source")
    }
    documents.append(root)
  }

  private mutating func scalar(
    _ text: String, tag: String?, plain: Bool, anchor: String?, at position: SourcePosition
  ) throws(YAMLError) {
    try count(1, at: position)
    if expectsKey {
      try key(text, at: position)
      if let anchor { anchors[anchor] = Anchor(node: YAMLNode(.string(text), at: position), nodes: 1) }
      return
    }
    let value: YAMLNode.Value
    if let tag {
      guard let tagged = ScalarResolution.tagged(text, tag: tag) else {
        throw YAMLError(at: position, "the tag \(tag.prefix(60)) does not fit this value; leave tags out")
      }
      value = tagged
    } else {
      value = plain ? ScalarResolution.plain(text) : .string(text)
    }
    let node = YAMLNode(value, at: position)
    if let anchor { anchors[anchor] = Anchor(node: node, nodes: 1) }
    try add(node, at: position)
  }

  private mutating func key(_ text: String, at position: SourcePosition) throws(YAMLError) {
    let top = stack.count - 1
    guard stack[top].keys.insert(text).inserted else {
      throw YAMLError(at: position, "the key '\(text.prefix(100))' stands twice in one mapping")
    }
    stack[top].pendingKey = (text, position)
  }

  private mutating func close(at position: SourcePosition) throws(YAMLError) {
    guard let open = stack.popLast() else { return }
    let entries = open.keys.contains(Self.mergeKey) ? try Self.merged(open.entries) : open.entries
    let node = YAMLNode(open.isMapping ? .mapping(entries) : .sequence(open.items), at: open.position)
    if let anchor = open.anchor { anchors[anchor] = Anchor(node: node, nodes: nodes - open.nodesBefore) }
    try add(node, at: position)
  }

  /// YAML 1.1's merge key, which Kubernetes' reader knows.
  private static let mergeKey = "<<"

  /// Entries with those of the mappings under `<<` added: own keys win, then the earlier mapping.
  private static func merged(_ entries: [YAMLEntry]) throws(YAMLError) -> [YAMLEntry] {
    var result = entries.filter { $0.key != mergeKey }
    var known = Set(result.map(\.key))
    for entry in entries where entry.key == mergeKey {
      let sources: [YAMLNode]
      if case .sequence(let items) = entry.value.value { sources = items } else { sources = [entry.value] }
      for source in sources {
        guard case .mapping(let inner) = source.value else {
          throw YAMLError(at: entry.position, "'<<' merges mappings, not \(source.kind)")
        }
        for item in inner where known.insert(item.key).inserted { result.append(item) }
      }
    }
    return result
  }

  private mutating func add(_ node: YAMLNode, at position: SourcePosition) throws(YAMLError) {
    guard !stack.isEmpty else {
      root = node
      return
    }
    let top = stack.count - 1
    guard stack[top].isMapping else {
      stack[top].items.append(node)
      return
    }
    guard let key = stack[top].pendingKey else { throw YAMLError(at: position, "a mapping key must be a string") }
    stack[top].entries.append(YAMLEntry(key: key.text, position: key.position, value: node))
    stack[top].pendingKey = nil
  }
}
