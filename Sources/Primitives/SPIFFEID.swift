/// A SPIFFE identity (SPIFFE-ID standard): `spiffe://<trust domain>/<path>`, at most 2048 bytes.
///
/// Two shapes are used: workloads `/ns/<namespace>/sa/<service account>` (as Istio) and nodes `/node/<name>`.
public struct SPIFFEID: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  public let trustDomain: String
  /// Path segments after the trust domain; never empty.
  public let path: [String]
  public static let bytesMax = 2048

  /// Parses strictly: lower-case scheme and trust domain, no port, user, query, fragment, empty, `.` or `..` segment.
  public init(parsing text: String) throws(NameError) {
    let scheme = "spiffe://"
    guard text.utf8.count <= Self.bytesMax else { throw NameError("a SPIFFE id has at most \(Self.bytesMax) bytes") }
    guard text.utf8.starts(with: scheme.utf8) else { throw NameError("a SPIFFE id starts with '\(scheme)'") }
    let parts = text.utf8.dropFirst(scheme.utf8.count).split(separator: 0x2F, omittingEmptySubsequences: false)
    guard parts.count >= 2, let domain = parts.first else { throw NameError("a SPIFFE id has a trust domain and a path") }
    try Self.checkTrustDomain(domain)
    var path: [String] = []
    for part in parts.dropFirst() { path.append(try Self.checkSegment(part)) }
    self.trustDomain = String(decoding: domain, as: UTF8.self)
    self.path = path
  }

  /// The identity of workloads running as `serviceAccount` in `namespace`.
  public static func workload(trustDomain: String, namespace: String, serviceAccount: String) throws(NameError) -> SPIFFEID {
    let id = try SPIFFEID(parsing: "spiffe://\(trustDomain)/ns/\(namespace)/sa/\(serviceAccount)")
    guard id.workload != nil else { throw NameError("a namespace or service account of a SPIFFE id has no '/'") }
    return id
  }

  /// The identity of a node.
  public static func node(trustDomain: String, name: NodeName) throws(NameError) -> SPIFFEID {
    try SPIFFEID(parsing: "spiffe://\(trustDomain)/node/\(name)")
  }

  /// The node this identity names, or nil when it is not a node's.
  public var node: NodeName? {
    guard path.count == 2, path[0] == "node" else { return nil }
    return try? NodeName(path[1])
  }

  /// The namespace and service account this identity names, or nil when it is not a workload's.
  public var workload: (namespace: String, serviceAccount: String)? {
    guard path.count == 4, path[0] == "ns", path[2] == "sa" else { return nil }
    return (path[1], path[3])
  }

  public static func checkTrustDomain(_ bytes: some Collection<UInt8>) throws(NameError) {
    let allowed: (UInt8) -> Bool = { ASCII.isLowerAlphanumeric($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F }
    guard !bytes.isEmpty, bytes.count <= 255, bytes.allSatisfy(allowed) else {
      throw NameError("a trust domain has 1–255 bytes of lower-case letters, digits, '.', '-' and '_'")
    }
  }

  private static func checkSegment(_ bytes: some Collection<UInt8>) throws(NameError) -> String {
    let allowed: (UInt8) -> Bool = {
      ASCII.isDigit($0) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7A) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
    }
    guard !bytes.isEmpty, bytes.allSatisfy(allowed) else {
      throw NameError("a SPIFFE path segment has letters, digits, '.', '-' and '_' only and is not empty")
    }
    let text = String(decoding: bytes, as: UTF8.self)
    guard text != ".", text != ".." else { throw NameError("a SPIFFE path has no '.' or '..' segment") }
    return text
  }

  public var description: String { "spiffe://\(trustDomain)/\(path.joined(separator: "/"))" }
  public static func < (a: SPIFFEID, b: SPIFFEID) -> Bool {
    a.description.utf8.lexicographicallyPrecedes(b.description.utf8)
  }

  public init(from decoder: any Decoder) throws {
    try self.init(parsing: decoder.singleValueContainer().decode(String.self))
  }
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
