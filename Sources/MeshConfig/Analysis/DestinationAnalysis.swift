/// DestinationRules and ServiceEntries.
enum DestinationAnalysis {
  static let analyzers = [
    Analyzer("destinationrule.CaCertificateAnalyzer", "TLS to servers whose certificate nothing verifies", authorities),
    Analyzer("destinationrule.PodNotSelectedAnalyzer", "subsets without workloads, rules without hosts", .workloads, subsets),
    Analyzer("serviceentry.ProtocolAddressesAnalyzer", "TCP ports without an address to know them by", addresses),
    Analyzer(
      "serviceentry.ConflictingServiceEntryProtocolAnalyzer", "one host and port with several protocols", protocols),
  ]

  @Sendable private static func authorities(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for rule in input.all("DestinationRule") {
      let policy = rule.spec["trafficPolicy"]
      let hasSelector = rule.spec["workloadSelector"].exists
      let host = rule.spec["host"].text ?? ""
      if let mode = unverified(policy["tls"], hasSelector) {
        report.add(
          .noVerificationAtDestination, rule, at: .spec / "trafficPolicy" / "tls",
          "TLS mode \(mode) to \(host) has no caCertificates to verify the server with")
      }
      for (index, port) in policy["portLevelSettings"].items.enumerated() {
        guard let mode = unverified(port["tls"], hasSelector) else { continue }
        report.add(
          .noVerificationAtPort, rule, at: (.spec / "trafficPolicy" / "portLevelSettings")[index] / "tls",
          "TLS mode \(mode) to \(host) port \(port["port"]["number"].text ?? "") has no caCertificates to verify the server with"
        )
      }
    }
  }

  /// The mode of TLS that originates here and names no authorities. A credential counts only for selected workloads.
  private static func unverified(_ tls: DocumentTree, _ hasSelector: Bool) -> String? {
    guard let mode = tls["mode"].text, mode == "SIMPLE" || mode == "MUTUAL" else { return nil }
    if !(tls["caCertificates"].text ?? "").isEmpty { return nil }
    return hasSelector && !(tls["credentialName"].text ?? "").isEmpty ? nil : mode
  }

  @Sendable private static func subsets(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let hosts = VisibleHosts(input)
    let workloads = input.pods.map { labels(of: $0, input) }
    for rule in input.all("DestinationRule") {
      let name = rule.spec["host"].text ?? ""
      guard let host = hosts.host(name, from: rule.namespace, exportTo: rule.spec["exportTo"].texts) else {
        report.add(.unknownRuleHost, rule, at: .spec / "host", "there is no host '\(name)' that it sees")
        continue
      }
      for (index, subset) in rule.spec["subsets"].items.enumerated() {
        let selector = host.selector.merging(subset["labels"].textMap) { $1 }
        if workloads.contains(where: { Labels.match(selector, $0) }) { continue }
        report.add(
          .subsetSelectsNothing, rule, at: (.spec / "subsets")[index],
          "no workload has the labels of the subset '\(subset["name"].text ?? "")': \(GatewayAnalysis.text(selector))")
      }
    }
  }

  /// A workload's labels with those that follow from its node; an empty locality adds none.
  private static func labels(of pod: AnalyzedResource, _ input: AnalysisInput) -> [String: String] {
    var labels = pod.labels
    guard let name = pod.spec["nodeName"].text, let node = input.find("Node", name, from: "") else { return labels }
    labels["kubernetes.io/hostname"] = name
    let keys = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"]
    for key in keys { if let value = node.labels[key], !value.isEmpty { labels[key] = value } }
    return labels
  }

  @Sendable private static func addresses(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let metadata = input.meshConfig["defaultConfig"]["proxyMetadata"]
    let allocates =
      metadata["ISTIO_META_DNS_CAPTURE"].isTrue
      && (metadata["ISTIO_META_DNS_AUTO_ALLOCATE"].isTrue || metadata["PILOT_ENABLE_IP_AUTOALLOCATE"].isTrue)
    if allocates { return }
    for entry in input.all("ServiceEntry") {
      guard !entry.spec["addresses"].exists, entry.status["addresses"].items.isEmpty else { continue }
      for (index, port) in entry.spec["ports"].items.enumerated() {
        let spoken = (port["protocol"].text ?? "").uppercased()
        guard spoken.isEmpty || spoken == "TCP" else { continue }
        report.add(
          .addressesRequired, entry, at: (.spec / "ports")[index],
          "without addresses, connections to TCP port \(port["number"].text ?? "") cannot be told from others")
      }
    }
  }

  @Sendable private static func protocols(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    struct Place: Hashable {
      let scope: String
      let host: String
      let port: Int
    }
    var entries: [Place: [(resource: AnalyzedResource, spoken: String)]] = [:]
    var order: [Place] = []
    for entry in input.all("ServiceEntry") {
      for scope in VisibleHosts.scopes(entry.spec["exportTo"].texts, entry.namespace) {
        for host in entry.spec["hosts"].texts {
          for port in entry.spec["ports"].items {
            let place = Place(scope: scope, host: host, port: port["number"].number ?? 0)
            if entries[place] == nil { order.append(place) }
            entries[place, default: []].append((entry, (port["protocol"].text ?? "").uppercased()))
          }
        }
      }
    }
    var reported: Set<String> = []
    for place in order {
      var all = entries[place] ?? []
      if place.scope != "*" { all += entries[Place(scope: "*", host: place.host, port: place.port)] ?? [] }
      let spoken = Set(all.map(\.spoken))
      guard spoken.count > 1 else { continue }
      let names = Set(all.map(\.resource.fullName)).sorted().joined(separator: ", ")
      for (resource, _) in all where reported.insert(resource.fullName).inserted {
        report.add(
          .conflictingEntryProtocol, resource, at: .spec / "ports",
          "\(names) give \(place.host):\(place.port) the protocols \(spoken.sorted().joined(separator: ", "))")
      }
    }
  }
}
