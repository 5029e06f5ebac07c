/// How a Secret leaves memory: its values sealed for the log and the disk, and left out everywhere else.
enum SealedSecret {
  /// Fields that hold values.
  static let valueFields = ["data", "stringData", "sealed"]
  /// Stands for a value in what is printed.
  static let redaction = "REDACTED"

  /// `data` with the keys that are there and nothing of their values.
  static func redacted(_ document: YAMLNode) -> [YAMLEntry] {
    var keys: Set<String> = []
    for field in ["data", "stringData"] {
      if case .mapping(let entries)? = document[field]?.value { keys.formUnion(entries.map(\.key)) }
    }
    guard !keys.isEmpty else { return [] }
    let start = document.position
    let entries = keys.sorted().map { YAMLEntry(key: $0, position: start, value: YAMLNode(.string(redaction), at: start)) }
    return [YAMLEntry(key: "data", position: start, value: YAMLNode(.mapping(entries), at: start))]
  }

  /// A stored Secret with its values back in place; any other document as it is.
  static func opened(_ document: YAMLNode, _ open: ((_ sealed: [UInt8]) -> [UInt8]?)?) throws(CanonicalError) -> YAMLNode {
    guard case .string("Secret")? = document["kind"]?.value, case .mapping(let entries) = document.value,
      case .string(let sealed)? = document["sealed"]?.value, let open
    else { return document }
    guard let bytes = Base64Form.decode(sealed), let plain = open(bytes), let values = YAMLParser.parse(plain).documents.first
    else { throw CanonicalError(reason: "the values of the Secret cannot be opened with this cluster's key") }
    let kept = entries.filter { !valueFields.contains($0.key) }
    let data = YAMLEntry(key: "data", position: document.position, value: values)
    return YAMLNode(.mapping(kept + [data]), at: document.position)
  }
}

extension MeshObject {
  /// A Secret without its values.
  var isSealed: Bool {
    guard case .secret(let secret) = spec else { return false }
    return secret.isSealed
  }

  /// The bytes that go into the log: the canonical ones, with a Secret's values sealed.
  ///
  /// - Parameter sealing: encrypts and authenticates; its result is opened by `decode(canonical:opening:)`.
  public func stored(sealing: (_ plain: [UInt8]) throws -> [UInt8]) rethrows -> [UInt8] {
    guard case .secret(let secret) = spec, !secret.isSealed else { return canonical }
    guard let document = YAMLParser.parse(canonical).documents.first, case .mapping(let entries) = document.value else {
      return canonical
    }
    let start = document.position
    let values = secret.data.map { key, value in
      YAMLEntry(key: key, position: start, value: YAMLNode(.string(Base64Form.encode(value)), at: start))
    }
    let sealed = try sealing(JSONText.canonical(YAMLNode(.mapping(values), at: start)))
    let text = YAMLNode(.string(Base64Form.encode(sealed)), at: start)
    let kept = entries.filter { $0.key != "sealed" }
    return JSONText.canonical(
      YAMLNode(.mapping(kept + [YAMLEntry(key: "sealed", position: start, value: text)]), at: start))
  }
}
