import Primitives
import Telemetry

/// Istio's validation rules for one entry of `http[]`.
struct HTTPRouteRules {
  let path: FieldPath
  let isDelegate: Bool
  /// Requests of the mesh take the rules, perhaps besides those of gateways.
  let appliesToMesh: Bool

  func check(_ route: VirtualService.HTTPRoute, into report: inout Report) {
    checkAction(route, into: &report)
    for (index, match) in route.match.enumerated() { checkMatch(match, at: (path / "match")[index], into: &report) }
    checkDestinations(route, into: &report)
    if let redirect = route.redirect { checkRedirect(redirect, route, into: &report) }
    if let rewrite = route.rewrite { checkRewrite(rewrite, into: &report) }
    if let fault = route.fault, fault.delay == nil && fault.abort == nil, !report.hasErrors {
      report.error(path / "fault", "HTTP fault injection must have an abort and/or a delay")
    }
    if let retries = route.retries { RetryWords.check(retries, at: path / "retries", into: &report) }
    if let cors = route.corsPolicy { checkCORS(cors, into: &report) }
    checkHeaders(route.headers, at: path / "headers", into: &report)
    let operations = route.headers.request
    let setsAuthority =
      operations.set.keys.contains(where: Self.isAuthority) || operations.add.keys.contains(where: Self.isAuthority)
    if route.rewrite?.authority != nil, setsAuthority {
      report.error(path / "headers" / "request", "rewrite.authority sets the authority already")
    }
  }

  private static func isAuthority(_ key: String) -> Bool { key.lowercased() == ":authority" || key.lowercased() == "host" }

  private func checkAction(_ route: VirtualService.HTTPRoute, into report: inout Report) {
    let written: [(name: String, present: Bool)] = [
      ("route", !route.route.isEmpty), ("redirect", route.redirect != nil), ("directResponse", route.directResponse != nil),
      ("delegate", route.delegate != nil),
    ]
    let names = written.filter(\.present).map(\.name)
    if names.count > 1 {
      report.error(path, "HTTP route cannot contain both \(names.joined(separator: " and "))")
    } else if names.isEmpty && !report.hasErrors {
      report.error(path, "HTTP route, redirect, directResponse or delegate is required")
    }
    if isDelegate && route.delegate != nil {
      report.error(path / "delegate", "delegate HTTP route cannot contain delegate")
    }
    for name in names where name == "redirect" || name == "directResponse" {
      if route.fault != nil { report.error(path / "fault", "HTTP route cannot contain both fault and \(name)") }
      if route.rewrite != nil { report.error(path / "rewrite", "HTTP route rule cannot contain both rewrite and \(name)") }
    }
  }

  private func checkMatch(_ match: VirtualService.HTTPMatch, at path: FieldPath, into report: inout Report) {
    for (name, text) in [("scheme", match.scheme), ("method", match.method), ("authority", match.authority)] {
      if text == .prefix("") { report.error(path / name / "prefix", "must not be empty") }
    }
    for (name, fields) in [("headers", match.headers), ("withoutHeaders", match.withoutHeaders)] {
      for field in fields {
        checkHeaderKey(field.key, at: path / name / field.key, into: &report)
        if field.value == .prefix("") { report.error(path / name / field.key / "prefix", "must not be empty") }
      }
    }
    for field in match.queryParams {
      if field.key.isEmpty { report.error(path / "queryParams", "a query parameter needs a name") }
      if field.value == .prefix("") { report.error(path / "queryParams" / field.key / "prefix", "must not be empty") }
    }
    if match.ignoreURICase, case .regex? = match.uri {
      report.warning(path / "ignoreUriCase", "has no effect on a regex", hint: "begin the regex with (?i)")
    }
    if !match.gateways.isEmpty && (!match.sourceLabels.isEmpty || !match.sourceNamespace.isEmpty) {
      report.warning(path, "sourceLabels and sourceNamespace are ignored because the match lists gateways")
    }
    VirtualServiceRules.checkSource(match.sourceLabels, match.sourceNamespace, at: path, into: &report)
    VirtualServiceRules.checkMatchGateways(match.gateways, at: path / "gateways", into: &report)
  }

  private func checkHeaderKey(_ key: String, at path: FieldPath, into report: inout Report) {
    if key.hasPrefix("@request.auth.claims") {
      if appliesToMesh {
        report.error(path, "JWT claim based routing without gateway, or for the mesh too: the mesh has no verified claims")
      } else {
        report.notEnforced(path, "tokens are not verified yet, so that no request has claims")
      }
      return
    }
    let name = key.hasPrefix(":") ? String(key.dropFirst()) : key
    if key.hasPrefix(":") && !["method", "path", "authority", "scheme"].contains(name) {
      report.error(path, "'\(key.prefix(80))' is not a pseudo-header")
    } else if !NameForm.isFieldName(name) {
      report.error(path, "'\(key.prefix(80))' is not a header name")
    } else if key != key.lowercased() {
      report.warning(path, "header names are compared in lower case", hint: "write \(key.lowercased().prefix(80))")
    }
  }

  private func checkDestinations(_ route: VirtualService.HTTPRoute, into report: inout Report) {
    VirtualServiceRules.checkWeights(route.route.map(\.weight), at: path / "route", into: &report)
    for (index, destination) in route.route.enumerated() {
      let place = (path / "route")[index]
      VirtualServiceRules.checkDestination(destination.destination, at: place / "destination", into: &report)
      checkHeaders(destination.headers, at: place / "headers", into: &report)
    }
    for (index, mirror) in route.mirrors.enumerated() {
      VirtualServiceRules.checkDestination(
        mirror.destination, at: (path / "mirrors")[index] / "destination", into: &report)
    }
  }

  private func checkRedirect(
    _ redirect: VirtualService.Redirect, _ route: VirtualService.HTTPRoute, into report: inout Report
  ) {
    let place = path / "redirect"
    if redirect.uri != nil && redirect.prefixRewrite != nil {
      report.error(place / "prefixRewrite", "uri and prefixRewrite exclude each other")
    }
    if redirect.prefixRewrite != nil && !matchesOnlyPrefixes(route.match) {
      report.error(place / "prefixRewrite", "needs a uri prefix in every match")
    }
    let nothing =
      redirect.uri == nil && redirect.authority == nil && redirect.prefixRewrite == nil && redirect.scheme == nil
      && redirect.port == nil && redirect.derivePort == nil
    if nothing { report.error(place, "redirect must specify uri, authority, scheme or port") }
    if let scheme = redirect.scheme, scheme != "http" && scheme != "https" {
      report.error(place / "scheme", "must be http or https")
    }
    if ![301, 302, 303, 307, 308].contains(redirect.redirectCode) {
      report.error(place / "redirectCode", "\(redirect.redirectCode) is not 301, 302, 303, 307 or 308")
    }
  }

  private func matchesOnlyPrefixes(_ matches: [VirtualService.HTTPMatch]) -> Bool {
    !matches.isEmpty
      && matches.allSatisfy {
        if case .prefix? = $0.uri { return true }
        return false
      }
  }

  private func checkRewrite(_ rewrite: VirtualService.Rewrite, into report: inout Report) {
    let place = path / "rewrite"
    if rewrite.uri != nil && rewrite.uriRegexRewrite != nil {
      report.error(place / "uriRegexRewrite", "rewrite may only contain one of uri or uriRegexRewrite")
    }
    if rewrite.uri == nil && rewrite.uriRegexRewrite == nil && rewrite.authority == nil && !report.hasErrors {
      report.error(place, "rewrite must specify uri, uriRegexRewrite or authority")
    }
    for (name, value) in [("uri", rewrite.uri), ("authority", rewrite.authority)] {
      if let value, HeaderValueForm.hasControls(value) { report.error(place / name, "has control characters") }
    }
  }

  private func checkCORS(_ cors: VirtualService.CORS, into report: inout Report) {
    let place = path / "corsPolicy"
    for (index, origin) in cors.allowOrigins.enumerated() where origin == .exact("") || origin == .prefix("") {
      report.error((place / "allowOrigins")[index], "must not be empty", hint: "write regex: '.*' for every origin")
    }
    for (index, method) in cors.allowMethods.enumerated() {
      let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"]
      if !known.contains(method) {
        report.error((place / "allowMethods")[index], "unsupported HTTP method '\(method.prefix(40))'")
      }
    }
    for (name, values) in [("allowHeaders", cors.allowHeaders), ("exposeHeaders", cors.exposeHeaders)] {
      for (index, value) in values.enumerated() where value != "*" && !NameForm.isFieldName(value) {
        report.error((place / name)[index], "'\(value.prefix(80))' is not a header name")
      }
    }
    if let maxAge = cors.maxAge, maxAge.nanosecondsClamped % 1_000_000_000 != 0 {
      report.error(place / "maxAge", "CORS max age must be in whole seconds")
    }
  }

  private func checkHeaders(_ headers: VirtualService.Headers, at path: FieldPath, into report: inout Report) {
    checkOperations(headers.request, at: path / "request", isRequest: true, into: &report)
    checkOperations(headers.response, at: path / "response", isRequest: false, into: &report)
  }

  private func checkOperations(
    _ operations: VirtualService.Headers.Operations, at path: FieldPath, isRequest: Bool, into report: inout Report
  ) {
    let sets = operations.set.sorted { $0.key < $1.key }
    let adds = operations.add.sorted { $0.key < $1.key }
    for (name, fields) in [("set", sets), ("add", adds)] {
      for (key, value) in fields {
        let place = path / name / key
        let isAuthority = key == ":authority" || key.lowercased() == "host"
        if isAuthority && !isRequest {
          report.error(place, "a response has no authority")
        } else if !isAuthority && (key.hasPrefix(":") || !NameForm.isFieldName(key)) {
          report.error(place, "'\(key.prefix(80))' is not a header name that can be changed")
        }
        if HeaderValueForm.hasControls(value) { report.error(place, "the value has control characters") }
        HeaderValueForm.checkOperators(value, at: place, isAuthority: isAuthority, into: &report)
      }
    }
    let authorities = (operations.set.keys.map { $0 } + operations.add.keys.map { $0 })
      .filter { $0 == ":authority" || $0.lowercased() == "host" }
    if authorities.count > 1 { report.error(path, "the authority is set twice") }
    for (index, key) in operations.remove.enumerated() {
      if key.hasPrefix(":") || key.lowercased() == "host" || !NameForm.isFieldName(key) {
        report.error((path / "remove")[index], "'\(key.prefix(80))' cannot be removed")
      }
    }
  }
}

/// Forms of header values in configuration.
enum HeaderValueForm {
  static func hasControls(_ value: String) -> Bool { value.utf8.contains { $0 < 0x20 && $0 != 0x09 || $0 == 0x7F } }

  /// Operators are refused as Envoy refuses them, and said where nothing stands for them.
  static func checkOperators(_ value: String, at place: FieldPath, isAuthority: Bool = false, into report: inout Report) {
    guard value.utf8.contains(0x25) else { return }
    guard let format = CommandFormat(value) else {
      report.errorUnlessStored(place, "single % not allowed", hint: "write %% for a percent sign, or %NAME% for a value")
      return
    }
    for problem in format.problems { report.errorUnlessStored(place, problem.description, hint: problem.hint) }
    for name in format.absent {
      report.notEnforced(place, "'%\(name.prefix(60))%' has no value here, and stands for nothing")
    }
    if isAuthority && format.fixed == nil {
      report.notEnforced(place, "the authority cannot be made of %…%; it is sent as written")
    }
  }
}
