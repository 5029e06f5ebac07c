/// What configuration may cost before it is accepted. Beyond a limit the source is refused with a finding that names it.
public enum ConfigLimits {
  /// Bytes of one source (a file or a request body). Kubernetes accepts 3 MiB a request; a whole sample set is 100 KiB.
  public static let sourceBytesMax = 4 << 20
  /// Nesting of mappings and sequences. The deepest Istio object nests about 12 levels.
  public static let depthMax = 64
  /// Nodes of one source after aliases are expanded: bounds memory at about 100 bytes each, so a small file cannot
  /// grow to gigabytes ("billion laughs").
  public static let nodesMax = 500_000
  /// Bytes of one scalar: a direct response body of 1 MB in base64, with room.
  public static let scalarBytesMax = 2 << 20
  /// Items of one list and keys of one mapping (the largest that Istio's own schema allows), so that checks that compare
  /// items with each other stay short.
  public static let itemsMax = 4_096
  /// Documents of one source, and objects after `List` kinds are expanded.
  public static let documentsMax = 20_000
  /// Findings kept for one document, and errors of one source before the rest of it is left unread.
  public static let findingsMax = 500
  /// Names of one namespace that are compared for a hint; among more there is none.
  static let hintCandidatesMax = 500
  /// Warnings and remarks kept for one change set; what follows is left out, and that is said.
  public static let remarksMax = 5_000
  /// Bytes of a user's regular expression (Istio's own limit).
  public static let patternBytesMax = 1024
  /// Bytes RE2 may use to compile and run one pattern, and instructions of its program (Envoy warns at 1,000).
  public static let patternMemoryBytesMax: Int64 = 1 << 20
  public static let patternProgramMax: Int32 = 10_000
  /// Bytes of a direct response body (Istio: error above 1 MB, warning above 100 kB).
  public static let directResponseBytesMax = 1_000_000
  public static let directResponseBytesWarning = 100_000
  /// Names in Kubernetes' DNS-subdomain form.
  public static let subdomainBytesMax = 253
  /// Bytes of the path of a Unix socket (`sun_path`, with room for the NUL).
  public static let socketPathBytesMax = 107
  /// SPIFFE bundles that are fetched (`caCertificates[].spiffeBundleUrl`): with 128 authorities each, half of what workloads trust.
  public static let trustBundleURLsMax = 16
  /// Names outside the mesh whose addresses are endpoints, and are kept known.
  public static let resolvedNamesMax = 4_096
  /// Destinations whose answers are remembered for one kind of client: beyond it they are looked up anew.
  static let answersMax = 65_536
}
