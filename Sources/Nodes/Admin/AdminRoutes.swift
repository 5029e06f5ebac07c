import FoundationEssentials
import HTTPCodec
import MeshActors
import Primitives
import Transport

/// What the admin socket answers. Each path is one function; errors become `AdminFailure` with a status.
struct AdminRoutes {
  let node: NodeRuntime

  func answer(_ request: HTTPRequest, _ exchange: HTTPExchange) async {
    do {
      if request.method == "POST", request.path == "/v1/workloads" { return try await register(request, exchange) }
      if request.method == "GET", request.path == "/v1/watch" { return try await watch(request, exchange) }
      let warning = await warningOfAge(request)
      var response = try await respond(to: request)
      if let warning { response.headers.append(HTTPField("warning", "299 - \"\(warning)\"")) }
      exchange.respond(response)
    } catch {
      exchange.respond(Self.response(to: error))
    }
  }

  /// Answers that show the configuration as this node has it.
  private static let showsConfiguration: Set = ["/v1/objects", "/v1/history", "/v1/live", "/v1/describe", "/v1/backup"]

  /// Waits until this node shows at least what it showed before it was started; what to say when it cannot know.
  private func warningOfAge(_ request: HTTPRequest) async -> String? {
    guard Self.showsConfiguration.contains(request.path), QueryParameters(request.query)["consistent"] != "true",
      await !node.catchingUp.isDone()
    else { return nil }
    return "\(node.node.name) has heard from no leader since it was started: this is what it remembers, "
      + "and may lack the last changes that it showed before; see: mesh-node status"
  }

  private func respond(to request: HTTPRequest) async throws -> HTTPResponse {
    switch (request.method, request.path) {
    case ("GET", "/v1/members"): try Self.json(await members())
    case ("GET", "/v1/roles"): try Self.json(roles())
    case ("GET", "/v1/services"): try Self.json(await services())
    case ("GET", "/v1/status"): try Self.json(await status())
    case ("GET", "/v1/certificates"): try Self.json(await certificates())
    case ("GET", "/v1/version"): try Self.json(VersionInfo.current)
    case ("GET", "/v1/objects"): try await Self.json(objects(QueryParameters(request.query)))
    case ("GET", "/v1/config/listeners"): try Self.json(await listenerConfig())
    case ("GET", "/v1/config/routes"): try Self.json(await routeConfig())
    case ("GET", "/v1/config/clusters"): try Self.json(await clusterConfig())
    case ("GET", "/v1/config/endpoints"): try Self.json(await endpointConfig())
    case ("GET", "/v1/history"): try Self.json(history())
    case ("GET", "/v1/live"): try Self.json(await live())
    case ("GET", "/v1/describe"): try Self.json(await describe(QueryParameters(request.query)))
    case ("GET", "/v1/backup"): backup()
    case ("POST", "/v1/rollback"): try Self.json(await rollback(Self.decode(request)))
    case ("POST", "/v1/apply"): try Self.json(await apply(Self.decode(request)))
    case ("POST", "/v1/delete"): try Self.json(await delete(Self.decode(request)))
    case ("POST", "/v1/explain"): try Self.json(await explain(Self.decode(request)))
    case ("POST", "/v1/workloads/withdraw"): try Self.json(await withdraw(Self.decode(request)))
    case ("POST", "/v1/leave"): try Self.json(await depart())
    case ("POST", "/v1/token/create"): try Self.json(await createToken(Self.decode(request)))
    case ("POST", "/v1/token/revoke"): try Self.json(await revokeToken(Self.decode(request)))
    case ("GET", "/v1/tokens"): try Self.json(tokens())
    case ("POST", "/v1/drain"): try Self.json(await drain(Self.decode(request), isDraining: true))
    case ("POST", "/v1/undrain"): try Self.json(await drain(Self.decode(request), isDraining: false))
    case ("POST", "/v1/forget"): try Self.json(await forget(Self.decode(request)))
    case ("POST", "/v1/roles/transfer"): try Self.json(await transferRole(Self.decode(request)))
    case ("POST", "/v1/gossip/rotate"): try Self.json(await rotateGossipKey())
    default: throw AdminFailure(code: "notFound", message: "the admin socket has no \(request.method) \(request.path)")
    }
  }

  // MARK: JSON

  private static func decode<Body: Decodable>(_ request: HTTPRequest) throws -> Body {
    do { return try JSONDecoder().decode(Body.self, from: Data(request.body)) } catch {
      throw AdminFailure(code: "invalid", message: "the body of \(request.method) \(request.path) cannot be read: \(error)")
    }
  }

  static func json(_ value: some Encodable) throws -> HTTPResponse {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let body = Array(try encoder.encode(value))
    return HTTPResponse(status: 200, headers: [HTTPField("content-type", "application/json")], body: body + [0x0A])
  }

  static func response(to error: any Error) -> HTTPResponse {
    let failure: AdminFailure =
      switch error {
      case let failure as AdminFailure: failure
      case let error as MeshError: AdminFailure(code: "\(error.code)", message: error.message)
      default: AdminFailure(code: "internal", message: "\(error)")
      }
    var response = (try? json(failure)) ?? HTTPResponse(status: 500, text: "internal error\n")
    response.status = status(of: failure.code)
    return response
  }

  private static func status(of code: String) -> Int {
    switch code {
    case "invalid", "badArguments": 400
    case "notFound": 404
    case "conflict": 409
    case "tooLarge": 413
    case "timeout": 504
    case "noQuorum", "unavailable", "notHolder", "nodeUnreachable", "overloaded": 503
    default: 500
    }
  }
}

/// The parameters of a query, percent-decoded; the first of equal names counts.
struct QueryParameters {
  private var values: [String: String] = [:]

  init(_ query: String?) {
    for pair in (query ?? "").split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = parts.first.map(String.init), values[name] == nil else { continue }
      values[name] = parts.count > 1 ? Self.decoded(parts[1]) : ""
    }
  }

  subscript(_ name: String) -> String? { values[name] }

  private static func decoded(_ text: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == 0x25, rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) {
        bytes.append(value)
        rest = rest.dropFirst(2)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
