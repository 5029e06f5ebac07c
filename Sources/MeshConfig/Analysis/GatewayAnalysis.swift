/// Gateways: their workloads, ports, certificates, and each other.
enum GatewayAnalysis {
  static let analyzers = [
    Analyzer("gateway.IngressGatewayPortAnalyzer", "ports that no Service of the gateway's workloads has", .workloads, ports),
    Analyzer("gateway.SecretAnalyzer", "credentials that are missing or cannot be used", .workloads, secrets),
    Analyzer("gateway.ConflictingGatewayAnalyzer", "servers of the same port, host and workloads", conflicts),
    Analyzer("gateway.CertificateAnalyzer", "one certificate in several gateways", certificates),
  ]

  private static func selector(_ gateway: AnalyzedResource) -> [String: String] { gateway.spec["selector"].textMap }

  /// `key=value,…` by key, as Kubernetes prints selectors.
  static func text(_ selector: [String: String]) -> String {
    selector.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
  }

  @Sendable private static func ports(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for gateway in input.all(.istioGateway) {
      let selector = selector(gateway)
      let pods = input.pods.filter { Labels.match(selector, $0.labels) }
      guard !pods.isEmpty else {
        report.add(.referenceNotFound, gateway, at: .spec / "selector", "no workload has the labels \(text(selector))")
        continue
      }
      if input.nodesOpenPorts { continue }
      let open = Set(pods.flatMap { openPorts(of: $0, input) })
      for (index, server) in gateway.spec["servers"].items.enumerated() {
        guard let number = server["port"]["number"].number, !open.contains(number) else { continue }
        report.add(
          .portNotOnService, gateway, at: (.spec / "servers")[index] / "port",
          "no Service of the workloads \(text(selector)) has port \(number)")
      }
    }
  }

  /// Ports and target ports of the Services in front of a workload.
  private static func openPorts(of pod: AnalyzedResource, _ input: AnalysisInput) -> [Int] {
    let services = input.all("Service").filter { service in
      let selector = service.spec["selector"].textMap
      return service.namespace == pod.namespace && !selector.isEmpty && Labels.match(selector, pod.labels)
    }
    return services.flatMap { $0.spec["ports"].items }.flatMap { port -> [Int] in
      guard (port["protocol"].text ?? "TCP") == "TCP" else { return [] }
      return [port["port"].number, port["targetPort"].number].compactMap { $0 }
    }
  }

  @Sendable private static func secrets(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    for gateway in input.all(.istioGateway) {
      let selector = selector(gateway)
      guard let pod = input.pods.first(where: { Labels.match(selector, $0.labels) }) else {
        report.add(.referenceNotFound, gateway, at: .spec / "selector", "no workload has the labels \(text(selector))")
        continue
      }
      for (index, server) in gateway.spec["servers"].items.enumerated() {
        guard let name = server["tls"]["credentialName"].text, !name.isEmpty else { continue }
        let path = (FieldPath.spec / "servers")[index] / "tls" / "credentialName"
        guard let secret = input.find("Secret", name, from: pod.namespace) else {
          report.add(.referenceNotFound, gateway, at: path, "there is no Secret \(pod.namespace)/\(name)")
          continue
        }
        if let problem = problem(of: secret, input) {
          report.add(.invalidGatewayCredential, gateway, at: path, "the Secret \(secret.fullName) cannot be used: \(problem)")
        }
      }
    }
  }

  /// `tls.crt` and `tls.key`, or `cert` and `key`.
  private static func problem(of secret: AnalyzedResource, _ input: AnalysisInput) -> String? {
    func value(_ key: String) -> [UInt8]? {
      if let text = secret.root["stringData"][key].text { return Array(text.utf8) }
      return secret.root["data"][key].text.flatMap { Base64Form.decode($0) }
    }
    let pairs = [("tls.crt", "tls.key"), ("cert", "key")]
    for (certificate, key) in pairs {
      guard let certificate = value(certificate), let key = value(key), !certificate.isEmpty, !key.isEmpty else { continue }
      return input.certificateProblem(certificate)
    }
    return "it has neither tls.crt and tls.key nor cert and key"
  }

  @Sendable private static func conflicts(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let gateways = input.all(.istioGateway)
    for gateway in gateways {
      let own = selector(gateway)
      let rivals = gateways.filter { $0.fullName != gateway.fullName && sharesWorkloads(own, selector($0), input) }
      for (index, server) in gateway.spec["servers"].items.enumerated() {
        let port = server["port"]["number"].number ?? 0
        let names = rivals.filter { rival in
          rival.spec["servers"].items.contains { other in
            (other["port"]["number"].number ?? 0) == port && other["bind"].text ?? "" == server["bind"].text ?? ""
              && !Set(other["hosts"].texts).isDisjoint(with: server["hosts"].texts)
          }
        }.map(\.fullName).sorted()
        guard !names.isEmpty else { continue }
        report.add(
          .conflictingGateways, gateway, at: (.spec / "servers")[index],
          "port \(port) for \(server["hosts"].texts.joined(separator: ", ")) is also opened by \(names.joined(separator: ", "))"
        )
      }
    }
  }

  /// Equal selectors, or one within the other with a workload that has the labels of both.
  private static func sharesWorkloads(_ a: [String: String], _ b: [String: String], _ input: AnalysisInput) -> Bool {
    if a == b { return true }
    guard Labels.match(a, b) || Labels.match(b, a) else { return false }
    return input.pods.contains { Labels.match(a, $0.labels) && Labels.match(b, $0.labels) }
  }

  @Sendable private static func certificates(_ input: AnalysisInput, _ report: inout AnalysisReport) {
    let gateways = input.all(.istioGateway)
    for gateway in gateways {
      let own = selector(gateway)
      for other in gateways where other.fullName != gateway.fullName {
        // Those whose workloads are among this one's.
        guard own.isEmpty || Labels.match(own, selector(other)) else { continue }
        for (index, server) in gateway.spec["servers"].items.enumerated() {
          guard other.spec["servers"].items.contains(where: { isSame($0["tls"], server["tls"]) }) else { continue }
          report.add(
            .duplicateCertificate, gateway, at: (.spec / "servers")[index] / "tls",
            "\(other.fullName) shows the same certificate: clients that keep HTTP/2 connections may get 404")
        }
      }
    }
  }

  private static func isSame(_ a: DocumentTree, _ b: DocumentTree) -> Bool {
    func value(_ key: String) -> (String, String) { (a[key].text ?? "", b[key].text ?? "") }
    let (name, otherName) = value("credentialName")
    if !name.isEmpty && !otherName.isEmpty { return name == otherName }
    guard name.isEmpty, otherName.isEmpty else { return false }
    return ["serverCertificate", "privateKey"].allSatisfy { key in
      let (file, other) = value(key)
      return !file.isEmpty && file == other
    }
  }
}
