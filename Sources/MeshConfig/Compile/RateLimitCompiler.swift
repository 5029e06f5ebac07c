/// The local rate limit on requests to a workload: of the EnvoyFilters that select it the last one counts, as later patches
/// replace earlier ones (Istio, EnvoyFilter: root namespace first, then by priority and age).
struct RateLimitCompiler {
  private let filters: [(namespace: String, filter: EnvoyFilter)]
  private let rootNamespace: String

  init(objects: [StoredObject], rootNamespace: String) {
    self.rootNamespace = rootNamespace
    var filters: [(namespace: String, filter: EnvoyFilter)] = []
    for object in objects {
      guard case .envoyFilter(let filter) = object.object.spec, filter.patches.contains(where: { $0.rateLimit != nil }) else {
        continue
      }
      filters.append((object.key.namespace, filter))
    }
    let root = rootNamespace
    self.filters = filters.enumerated().sorted { a, b in
      let (x, y) = ((a.element.namespace == root ? 0 : 1), (b.element.namespace == root ? 0 : 1))
      return (x, a.element.filter.priority, a.offset) < (y, b.element.filter.priority, b.offset)
    }.map(\.element)
  }

  func limit(for record: WorkloadRecord) -> LocalRateLimit? {
    var limit: LocalRateLimit?
    for (namespace, filter) in filters where namespace == rootNamespace || namespace == record.namespace {
      if let selector = filter.workloadSelector, !Labels.match(selector, record.labels) { continue }
      if !filter.targets.isEmpty { continue }
      for patch in filter.patches {
        guard let found = patch.rateLimit else { continue }
        let fits = patch.context == "ANY" || patch.context == (record.isGateway ? "GATEWAY" : "SIDECAR_INBOUND")
        if fits { limit = found }
      }
    }
    return limit
  }
}
