import Nodes
import Primitives

extension Command {
  static let config = Command(
    "config", .inspect, operands: "listeners|routes|clusters|endpoints", summary: "show what a node's proxy works from",
    discussion: """
      examples:
        mesh-node config routes --node n2 --fqdn reviews
        mesh-node config endpoints --fqdn reviews.default.svc.cluster.local --subset v2 -o json
      """,
    options: [
      .value("workload", "NAME", "routes: only those of this workload or gateway"),
      .value("fqdn", "HOST", "only this host, or hosts that begin with it and a dot"),
      .value("port", "PORT", "only this port"),
      .value("subset", "NAME", "clusters and endpoints: only this subset"),
    ]
  ) { arguments in
    let client = try AdminClient(arguments)
    let format = try arguments.format
    let wanted = try ConfigFilter(arguments)
    switch arguments.operands.first {
    case "listeners":
      let listeners = try client.get("/v1/config/listeners", as: [ListenerConfigInfo].self).filter {
        wanted.admits(port: $0.port)
      }
      try show(listeners, as: format) { list in
        var table = Table("ADDRESS", "PORT", "KIND", "SERVES")
        for item in list { table.row(item.address, "\(item.port)", item.kind, item.detail) }
        return table.lines
      }
    case "routes":
      let workload = arguments.value("workload")
      let routes = try client.get("/v1/config/routes", as: [RouteConfigInfo].self).filter { route in
        (workload == nil || route.table.contains(workload ?? "")) && wanted.admits(port: route.port)
          && route.domains.contains { wanted.admits(host: $0) }
      }
      try show(routes, as: format) { list in
        var table = Table("FROM", "PORT", "VIRTUAL HOST", "MATCH", "DESTINATION", "ORIGIN")
        for item in list { table.row(item.table, "\(item.port)", item.virtualHost, item.match, item.destination, item.origin) }
        return table.lines
      }
    case "clusters":
      let clusters = try client.get("/v1/config/clusters", as: [ClusterConfigInfo].self).filter {
        wanted.admits(host: $0.host) && wanted.admits(port: $0.port) && wanted.admits(subset: $0.subset)
      }
      try show(clusters, as: format) { list in
        var table = Table(
          "SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "BALANCING", "TLS", "ENDPOINTS", "IN USE", "DESTINATION RULE")
        for item in list {
          table.row(
            item.host, "\(item.port)", item.subset, item.direction, item.discovery, item.loadBalancer, item.tls,
            "\(item.endpoints)", item.inUse ? "yes" : "no", item.destinationRule)
        }
        return table.lines
      }
    case "endpoints":
      let endpoints = try client.get("/v1/config/endpoints", as: [EndpointConfigInfo].self).filter {
        wanted.admits(cluster: $0.cluster)
      }
      try show(endpoints, as: format) { list in
        var table = Table("ENDPOINT", "VIA", "STATUS", "WORKLOAD", "WEIGHT", "LOCALITY", "CLUSTER", states: [2])
        for item in list {
          table.row(item.endpoint, item.via, item.status, item.workload, "\(item.weight)", item.locality, item.cluster)
        }
        return table.lines
      }
    case let other:
      let said = other.map { "'\($0)' is not one of them; " } ?? ""
      throw UsageError("\(said)say what to show: listeners, routes, clusters or endpoints")
    }
    return .done
  }

  static let explain = Command(
    "explain", .inspect, operands: "[METHOD] URL", summary: "say what would happen to a request, and why",
    discussion: """
      Evaluates the tables the node routes with, without sending anything.
      examples:
        mesh-node explain --from productpage --header end-user=jason GET http://reviews:9080/reviews/0
        mesh-node explain --gateway 8080 http://bookinfo.example/productpage
      """,
    options: [
      .value("from", "WORKLOAD", "the workload or service that sends the request"),
      .value("gateway", "PORT", "or: the gateway port that receives it"),
      .value("header", "NAME=VALUE", "a request header; repeatable"),
      .value("namespace", short: "n", "NAME", "namespace of the sender (default: default)"),
    ]
  ) { arguments in
    guard let last = arguments.operands.last, arguments.operands.count <= 2 else {
      throw UsageError("say which request: [METHOD] URL, for example GET http://reviews:9080/reviews/0")
    }
    let headers = try arguments.allValues("header").map { text in
      guard let separator = text.firstIndex(where: { $0 == "=" || $0 == ":" }) else {
        throw UsageError("--header is NAME=VALUE, not '\(text)'")
      }
      let value = text[text.index(after: separator)...].drop { $0 == " " }
      return ExplainRequest.Header(name: String(text[..<separator]).lowercased(), value: String(value))
    }
    let gateway = try arguments.value("gateway").map { _ in UInt16(try arguments.number("gateway", default: 0, in: 1...65535)) }
    guard (arguments.value("from") == nil) != (gateway == nil) else {
      throw UsageError("say who sends the request: --from WORKLOAD, or --gateway PORT")
    }
    let request = ExplainRequest(
      from: arguments.value("from"), gatewayPort: gateway, namespace: arguments.value("namespace") ?? "default",
      method: arguments.operands.count == 2 ? arguments.operands[0] : "GET", url: last, headers: headers)
    let answer = try AdminClient(arguments).post("/v1/explain", request, as: ExplainAnswer.self)
    try show(answer, as: arguments.format) { answer in
      answer.text.split(separator: "\n").map { Terminal.clean(String($0)) }
        + answer.notes.map { "not in force  \(Terminal.clean($0))" }
    }
    return .done
  }
}

/// What `config` is asked to show.
private struct ConfigFilter {
  private let host: String?
  private let port: UInt16?
  private let subset: String?

  init(_ arguments: Arguments) throws {
    host = arguments.value("fqdn")?.lowercased()
    port = try arguments.value("port").map { _ in UInt16(try arguments.number("port", default: 0, in: 1...65535)) }
    subset = arguments.value("subset")
  }

  func admits(host name: String) -> Bool { host.map { name == $0 || name.hasPrefix($0 + ".") } ?? true }
  func admits(port number: UInt16) -> Bool { port == nil || port == number }
  func admits(subset name: String) -> Bool { subset == nil || subset == name }

  /// By a name such as `outbound|9080|v1|reviews.default.svc.cluster.local`.
  func admits(cluster: String) -> Bool {
    let parts = cluster.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 4 else { return host == nil && port == nil && subset == nil }
    return admits(host: parts[3]) && admits(port: UInt16(parts[1]) ?? 0) && admits(subset: parts[2])
  }
}
