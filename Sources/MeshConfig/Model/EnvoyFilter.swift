/// Patches of Envoy's own configuration (`networking.istio.io` EnvoyFilter). Checked for form and kept.
public struct EnvoyFilter: Hashable, Sendable {
  /// Labels of the workloads; nil: every workload of the namespace.
  public var workloadSelector: [String: String]?
  public var targets: [PolicyTarget.Reference]
  public var priority: Int
  public var patches: [Patch]

  public struct Patch: Hashable, Sendable {
    public var applyTo: String
    public var context: String
    public var operation: String
    /// `name` of the patch's value, by which well-known filters are recognised.
    public var name: String
    /// Of a patch that sets a local rate limit.
    public var rateLimit: LocalRateLimit?

    /// Sets a rate limit, or adds the filter that another patch gives its limit.
    var isEnforced: Bool { rateLimit != nil || name == LocalRateLimitPatch.filter && operation != "REMOVE" }
  }
}

extension EnvoyFilter: FieldDecodable {
  init(_ fields: inout Fields) {
    workloadSelector = (fields.object("workloadSelector") as WorkloadSelector?)?.labels
    targets = fields.list("targetRefs")
    priority = fields.int("priority", in: Int(Int32.min)...Int(Int32.max)) ?? 0
    patches = fields.list("configPatches")
    if targets.count > 16 { fields.error("targetRefs", "at most 16 targetRefs") }
    if workloadSelector != nil && !targets.isEmpty {
      fields.error("targetRefs", "only one of targetRefs or workloadSelector can be set")
    }
  }
}

extension EnvoyFilter.Patch: FieldDecodable {
  private enum Target: String, CaseIterable {
    case listener = "LISTENER"
    case filterChain = "FILTER_CHAIN"
    case networkFilter = "NETWORK_FILTER"
    case httpFilter = "HTTP_FILTER"
    case routeConfiguration = "ROUTE_CONFIGURATION"
    case virtualHost = "VIRTUAL_HOST"
    case httpRoute = "HTTP_ROUTE"
    case cluster = "CLUSTER"
    case extensionConfig = "EXTENSION_CONFIG"
    case bootstrap = "BOOTSTRAP"
    case listenerFilter = "LISTENER_FILTER"
  }

  init(_ fields: inout Fields) {
    let target = fields.name("applyTo") as Target?
    applyTo = target?.rawValue ?? ""
    let match: Match? = fields.object("match")
    let change: Change? = fields.object("patch")
    context = match?.context ?? "ANY"
    operation = change?.operation ?? ""
    name = change?.name ?? ""
    rateLimit = operation == "REMOVE" ? nil : change?.rateLimit
    if fields.report.hasErrors { return }
    if target == nil { fields.error("applyTo", "required") }
    guard let change else {
      fields.error("patch", "missing patch")
      return
    }
    if change.operation != "REMOVE" && !change.hasValue {
      fields.error("patch", "missing patch value for non-remove operation")
    }
    if change.operation == "REMOVE" && change.hasValue {
      fields.report.warning(fields.path / "patch" / "value", "has no effect with REMOVE")
    }
    if change.hasFilterClass && target != .httpFilter {
      fields.error("patch", "filterClass is valid only with HTTP_FILTER")
    }
    for (part, owners) in Match.owners where match?.parts.contains(part) ?? false {
      if let target, !owners.contains(target.rawValue) {
        fields.error("match", "a match on \(part) does not fit applyTo \(target.rawValue)")
      }
    }
  }

  private struct Change: FieldDecodable {
    private enum Operation: String, CaseIterable {
      case merge = "MERGE"
      case add = "ADD"
      case remove = "REMOVE"
      case insertBefore = "INSERT_BEFORE"
      case insertAfter = "INSERT_AFTER"
      case insertFirst = "INSERT_FIRST"
      case replace = "REPLACE"
      case mergeAndReplaceList = "MERGE_AND_REPLACE_LIST"
    }
    private enum Class: String, CaseIterable {
      case unspecified = "UNSPECIFIED"
      case authentication = "AUTHN"
      case authorization = "AUTHZ"
      case stats = "STATS"
    }
    private struct Value: FieldDecodable {
      let name: String
      let isRateLimit: Bool
      init(_ fields: inout Fields) {
        name = fields.has("name") ? fields.string("name") ?? "" : ""
        isRateLimit =
          name == LocalRateLimitPatch.filter || fields.has("typed_per_filter_config") || fields.has("typedPerFilterConfig")
        fields.ignoreOthers()
      }
    }
    let operation: String
    let hasFilterClass: Bool
    let hasValue: Bool
    let name: String
    let rateLimit: LocalRateLimit?
    init(_ fields: inout Fields) {
      let named = fields.name("operation") as Operation?
      operation = named?.rawValue ?? ""
      if named == nil && !fields.report.hasErrors { fields.error("operation", "required") }
      let filterClass = fields.name("filterClass") as Class?
      hasFilterClass = filterClass != nil && filterClass != .unspecified
      hasValue = fields.has("value")
      let value: Value? = fields.object("value")
      name = value?.name ?? ""
      rateLimit = value?.isRateLimit == true ? (fields.object("value") as LocalRateLimitPatch?)?.limit : nil
    }
  }

  private struct Match: FieldDecodable {
    private enum Context: String, CaseIterable {
      case any = "ANY"
      case inbound = "SIDECAR_INBOUND"
      case outbound = "SIDECAR_OUTBOUND"
      case gateway = "GATEWAY"
      case waypoint = "WAYPOINT"
    }
    /// The parts of Envoy's configuration that a match may look at, and what may then be patched.
    static let owners: [(part: String, targets: Set<String>)] = [
      ("listener", ["LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER", "EXTENSION_CONFIG"]),
      ("routeConfiguration", ["ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"]),
      ("cluster", ["CLUSTER"]),
    ]
    let context: String
    var parts: [String] = []
    init(_ fields: inout Fields) {
      context = (fields.name("context") as Context?)?.rawValue ?? "ANY"
      if (fields.object("listener") as EnvoyFilterMatch.Listener?) != nil { parts.append("listener") }
      if (fields.object("routeConfiguration") as EnvoyFilterMatch.Routes?) != nil { parts.append("routeConfiguration") }
      if (fields.object("cluster") as EnvoyFilterMatch.Cluster?) != nil { parts.append("cluster") }
      if (fields.object("waypoint") as EnvoyFilterMatch.Waypoint?) != nil { parts.append("waypoint") }
      _ = fields.object("proxy") as EnvoyFilterMatch.Proxy?
      if parts.count > 1 { fields.error("", "a match looks at one of \(parts.joined(separator: ", "))") }
      if (context == "WAYPOINT") != parts.contains("waypoint") && (parts.contains("waypoint") || context == "WAYPOINT") {
        fields.error("context", "context WAYPOINT and a waypoint match belong together")
      }
    }
  }
}
