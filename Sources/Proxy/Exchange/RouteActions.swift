import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

// What a matched route changes in a request or answers itself.
extension Exchange {
  private var chosenDestination: WeightedDestination? {
    guard case .forward(_, let index) = plan.outcome, case .forward(let destinations)? = route?.action,
      destinations.indices.contains(index)
    else { return nil }
    return destinations[index]
  }

  /// Rewrites and header operations, once, before the first try.
  func applyRequestChanges() {
    guard facts.changesRequest, let route, case .forward(_, let index) = plan.outcome else { return }
    if let path = PathRewriting.path(of: head, route, match: plan.route?.match) {
      originalTarget = head.target
      let original = head.headers.copy(head.target)
      let query = head.query.map { head.headers.copy($0) }
      if head.setTarget(path: path, query: query) { head.headers.set(Names.originalPath, original) }
    }
    if let authority = route.authority(destination: index) {
      tellHost(before: authority)
      head.setAuthority(authority)
    }
    if !route.requestHeaders.isEmpty {
      let operations = route.requestHeaders.filled(in: self)
      operations.apply(to: &head.headers)
    }
    if let operations = chosenDestination?.requestHeaders.filled(in: self), !operations.isEmpty {
      operations.apply(to: &head.headers)
    }
  }

  /// Header operations on a response, route first.
  func applyResponseChanges(_ headers: inout HeaderBlock) {
    guard facts.changesResponse, let route else { return }
    if !route.responseHeaders.isEmpty { route.responseHeaders.filled(in: self, response: headers).apply(to: &headers) }
    if let operations = chosenDestination?.responseHeaders, !operations.isEmpty {
      operations.filled(in: self, response: headers).apply(to: &headers)
    }
    guard plan.isOriginAllowed, let cors = route.cors else { return }
    for field in CORS.responseHeaders(head, cors) {
      headers.removeHeader(named: field.name)
      headers.addHeader(named: field.name, value: field.value)
    }
  }

  /// Redirects, fixed answers and CORS preflights.
  func replyByRoute() {
    switch plan.outcome {
    case .redirectToHTTPS:
      var location: [UInt8] = []
      PathRewriting.appendHTTPSLocation(of: head, to: &location)
      redirect(status: 301, to: location)
    case .redirect:
      guard let route, case .redirect(let redirect) = route.action else { return reply(.noRoute) }
      var location: [UInt8] = []
      let context = RequestContext(port: caller.port.address.port ?? 80, isHTTPS: caller.isTLS)
      PathRewriting.appendLocation(
        of: head, context, route, redirect, match: plan.route?.match, to: &location)
      self.redirect(status: redirect.status, to: location)
    case .directResponse:
      guard let route, case .directResponse(let status, let body) = route.action else { return reply(.noRoute) }
      var answer = ProxyReply(LocalReply(status: status, body: "", flags: [], details: "direct_response"))
      answer.body = body
      addOperations(of: route, to: &answer)
      reply(answer)
    case .preflight(let isOriginAllowed):
      var answer = ProxyReply(LocalReply(status: 200, body: "", flags: [], details: "cors_preflight"))
      if isOriginAllowed, let cors = route?.cors {
        for field in CORS.preflightHeaders(head, cors) { add(field, to: &answer) }
      }
      reply(answer)
    default: reply(.noRoute)
    }
  }

  private func redirect(status: UInt16, to location: [UInt8]) {
    var answer = ProxyReply(LocalReply(status: status, body: "", flags: [], details: "direct_response"))
    answer.fields.append((Names.location, location))
    if let route { addOperations(of: route, to: &answer) }
    reply(answer)
  }

  private func addOperations(of route: Route, to answer: inout ProxyReply) {
    let operations = route.responseHeaders.filled(in: self)
    for field in operations.set + operations.add { add(field, to: &answer) }
  }

  private func add(_ field: HeaderOperations.Field, to answer: inout ProxyReply) {
    if let name = HeaderName(bytes: field.name) { answer.fields.append((name, field.value)) }
  }
}

extension HeaderBlock: HeaderFields {
  public mutating func removeHeader(named name: [UInt8]) {
    guard let name = HeaderName(bytes: name), !name.known.isFraming else { return }
    remove(name)
  }

  public mutating func addHeader(named name: [UInt8], value: [UInt8]) {
    guard let name = HeaderName(bytes: name), !name.known.isFraming else { return }
    add(name, value)
  }
}

extension KnownHeader {
  /// Fields that say where a message ends; configuration cannot touch them.
  var isFraming: Bool {
    switch self {
    case .contentLength, .transferEncoding, .connection, .upgrade, .te, .trailer: true
    default: false
    }
  }
}
