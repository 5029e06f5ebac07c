/// Kubernetes Services and the Deployments behind them.
enum ServiceAnalysis {
  static let analyzers = [
    Analyzer("service.PortNameAnalyzer", "ports whose name does not say what they speak", portNames),
    Analyzer("deployment.ServiceAssociationAnalyzer", "workloads that Services describe differently", .kubernetes, services),
    Analyzer("deployment.ApplicationUIDAnalyzer", "applications that run as the proxy's user", .kubernetes, users),
  ]

  @Sendable private static func portNames(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for service in input.all("Service") where !service.isControlPlane {
      if service.labels["gateway.istio.io/managed"]?.hasPrefix("istio.io-") == true { continue }
      let isExternal = service.spec["type"].text == "ExternalName"
      for (index, port) in service.spec["ports"].items.enumerated() {
        let name = port["name"].text ?? ""
        let isKnown =
          port["protocol"].text == "UDP"
          || ProtocolSelection.isDeclared(
            appProtocol: port["appProtocol"].text, name: name, number: port["port"].number ?? 0)
        let path = (FieldPath.spec / "ports")[index] / "name"
        if isExternal, !isKnown || name == "tcp" {
          report.add(
            .externalNamePort, service, at: path,
            "the port '\(name)' of an ExternalName Service is taken for TCP and would capture other connections to its number")
        } else if !isKnown {
          report.add(
            .portNameConvention, service, at: path,
            "the port '\(name)' does not begin with a protocol (http, grpc, tcp, …): what it speaks has to be guessed")
        }
      }
    }
  }

  // MARK: Deployments

  @Sendable private static func services(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for deployment in input.all("Deployment") {
      if deployment.labels["gateway.istio.io/managed"] == "istio.io-mesh-controller" { continue }
      guard isInMesh(deployment, input) else { continue }
      let labels = deployment.spec["template"]["metadata"]["labels"].textMap
      let services = input.all("Service").filter { service in
        let selector = service.spec["selector"].textMap
        return service.namespace == deployment.namespace && !selector.isEmpty && Labels.match(selector, labels)
      }
      var protocols: [Int: [String: [String]]] = [:]
      var targets: [String: [Int: String]] = [:]
      for service in services {
        for port in service.spec["ports"].items {
          let number = port["port"].number ?? 0
          protocols[number, default: [:]][port["protocol"].text ?? "TCP", default: []].append(service.fullName)
          targets[port["targetPort"].text ?? String(number), default: [:]][number] = service.fullName
        }
      }
      for (number, spoken) in protocols.sorted(by: { $0.key < $1.key }) where spoken.count > 1 {
        let names = spoken.values.flatMap { $0 }.sorted().joined(separator: ", ")
        report.add(.deploymentOfSeveralServices, deployment, "\(names) give its port \(number) different protocols")
      }
      for (target, ports) in targets.sorted(by: { $0.key < $1.key }) where ports.count > 1 {
        let names = ports.values.sorted().joined(separator: ", ")
        let numbers = ports.keys.sorted().map(String.init).joined(separator: ", ")
        report.add(.deploymentConflictingPorts, deployment, "\(names) lead to its port \(target) under the ports \(numbers)")
      }
    }
  }

  private static func isInMesh(_ deployment: AnalyzedResource, _ input: AnalysisInput) -> Bool {
    let template = deployment.spec["template"]
    if InjectionAnalysis.proxyImage(in: template["spec"]["containers"].items) != nil { return true }
    for metadata in ["labels", "annotations"] {
      if let inject = template["metadata"][metadata].textMap["sidecar.istio.io/inject"] { return inject == "true" }
    }
    guard let namespace = input.find("Namespace", deployment.namespace, from: "") else { return false }
    return namespace.labels[InjectionAnalysis.injectionLabel] == "enabled"
  }

  /// The user that owns the proxy's own connections, which are not captured.
  private static let proxyUser = 1337

  @Sendable private static func users(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let workloads =
      input.pods.map { ($0, $0.spec) } + input.all("Deployment").map { ($0, $0.spec["template"]["spec"]) }
    for (resource, spec) in workloads where !resource.isControlPlane {
      let applications = spec["containers"].items.filter { $0["name"].text != InjectionAnalysis.proxyContainer }
      for holder in [spec] + applications where holder["securityContext"]["runAsUser"].number == proxyUser {
        report.add(.invalidApplicationUser, resource, "it runs as user \(proxyUser), whose connections are not captured")
      }
    }
  }
}

extension ProtocolSelection {
  /// Whether a port's declaration says what it speaks, so that nothing is guessed.
  static func isDeclared(appProtocol: String?, name: String, number: Int) -> Bool {
    let words = ["http", "http2", "grpc", "grpc-web", "https", "tls", "tcp", "udp", "mongo", "redis", "mysql", "http_proxy"]
    if let appProtocol {
      let spoken = appProtocol.lowercased()
      if words.contains(spoken) || spoken.hasPrefix("kubernetes.io/") { return true }
    }
    let lowered = name.lowercased()
    if lowered == "grpc-web" || lowered.hasPrefix("grpc-web-") { return true }
    return words.contains(String(lowered.prefix { $0 != "-" })) || [25, 53, 3306, 27017].contains(number)
  }
}
