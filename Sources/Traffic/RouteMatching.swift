import HTTPCodec
import MeshConfig
import Primitives

/// The first condition of an alternative that a request does not meet.
public enum MatchFailure: Hashable, Sendable {
  case path, scheme, method, authority
  /// Index into `RouteMatch.headers`, `.withoutHeaders` or `.queryParameters`.
  case header(Int)
  case withoutHeader(Int)
  case queryParameter(Int)
}

extension RouteMatch {
  /// nil when every condition holds, else the first that does not, in the order in which Istio lists them.
  func failure(
    _ request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>, looksAtPath: Bool = true
  ) -> MatchFailure? {
    if looksAtPath, let path, !path.matches(bytes.extracting(request.path), ignoringCase: ignorePathCase) { return .path }
    if let scheme, !scheme.matches(context.scheme.span) { return .scheme }
    if let method, !method.matches(bytes.extracting(request.methodName)) { return .method }
    if let authority, !authority.matches(bytes.extracting(request.authority)) { return .authority }
    for index in headers.indices where !headers[index].matchesHeader(of: request, context, bytes) { return .header(index) }
    for index in withoutHeaders.indices where !withoutHeaders[index].matchesAbsence(in: request, context, bytes) {
      return .withoutHeader(index)
    }
    for index in queryParameters.indices where !queryParameters[index].matchesQuery(of: request, bytes) {
      return .queryParameter(index)
    }
    return nil
  }
}

extension RouteMatch {
  /// Whether every condition holds. A pattern on the path is tried last: it costs the most.
  func holds(_ request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>) -> Bool {
    guard case .regex(let pattern) = path else { return failure(request, context, bytes) == nil }
    return failure(request, context, bytes, looksAtPath: false) == nil && pattern.matches(bytes.extracting(request.path))
  }
}

extension PathMatch {
  func matches(_ path: Span<UInt8>, ignoringCase: Bool) -> Bool {
    switch self {
    case .exact(let bytes): path.count == bytes.count && Self.starts(path, bytes, ignoringCase)
    case .prefix(let bytes): Self.starts(path, bytes, ignoringCase)
    case .segmentPrefix(let bytes): Self.startsWithSegments(path, bytes, ignoringCase)
    case .regex(let pattern): pattern.matches(path)
    }
  }

  private static func starts(_ path: Span<UInt8>, _ prefix: [UInt8], _ ignoringCase: Bool) -> Bool {
    starts(path, prefix, count: prefix.count, ignoringCase)
  }

  /// Whether `path` starts with the first `count` bytes of `prefix`.
  private static func starts(_ path: Span<UInt8>, _ prefix: [UInt8], count: Int, _ ignoringCase: Bool) -> Bool {
    guard path.count >= count else { return false }
    for index in 0..<count {
      if path[index] == prefix[index] { continue }
      guard ignoringCase, ASCII.lowercased(path[index]) == ASCII.lowercased(prefix[index]) else { return false }
    }
    return true
  }

  /// Gateway API: whole segments, a trailing slash in the value ignored.
  private static func startsWithSegments(_ path: Span<UInt8>, _ prefix: [UInt8], _ ignoringCase: Bool) -> Bool {
    let length = prefix.last == 0x2F ? prefix.count - 1 : prefix.count
    guard starts(path, prefix, count: length, ignoringCase) else { return false }
    return path.count == length || path[length] == 0x2F
  }
}

extension StringMatch {
  func matches(_ value: Span<UInt8>) -> Bool {
    switch self {
    case .exact(let bytes): Bytes.equal(value, bytes)
    case .prefix(let bytes): Bytes.hasPrefix(value, bytes.span)
    case .regex(let pattern): pattern.matches(value)
    case .present: true
    }
  }
}

extension FieldMatch {
  /// A missing header never matches; one sent several times is compared as its values joined with a comma.
  fileprivate func matchesHeader(
    of request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>
  ) -> Bool {
    matchesHeader(of: request, context, bytes, ifMissing: false)
  }

  /// The negation, where a missing header counts as the empty string; the presence form means "absent".
  fileprivate func matchesAbsence(
    in request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>
  ) -> Bool {
    let missing: Bool
    if case .present = match { missing = false } else { missing = match.matches([UInt8]().span) }
    return !matchesHeader(of: request, context, bytes, ifMissing: missing)
  }

  private func matchesHeader(
    of request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>, ifMissing: Bool
  ) -> Bool {
    if name.first == 0x3A { return matchesPseudoHeader(of: request, context, bytes, ifMissing: ifMissing) }
    var cursor = 0
    guard let first = request.nextHeader(named: name, from: &cursor) else { return ifMissing }
    guard let second = request.nextHeader(named: name, from: &cursor) else { return match.matches(bytes.extracting(first)) }
    var joined: [UInt8] = []
    joined.append(bytes.extracting(first))
    var next: Range<Int>? = second
    while let value = next {
      joined.append(0x2C)
      joined.append(bytes.extracting(value))
      next = request.nextHeader(named: name, from: &cursor)
    }
    return match.matches(joined.span)
  }

  private func matchesPseudoHeader(
    of request: some RequestView, _ context: RequestContext, _ bytes: Span<UInt8>, ifMissing: Bool
  ) -> Bool {
    if name.elementsEqual(":method".utf8) { return match.matches(bytes.extracting(request.methodName)) }
    if name.elementsEqual(":authority".utf8) { return match.matches(bytes.extracting(request.authority)) }
    if name.elementsEqual(":scheme".utf8) { return match.matches(context.scheme.span) }
    return name.elementsEqual(":path".utf8) ? match.matches(bytes.extracting(request.target)) : ifMissing
  }

  /// The first value of the parameter decides, and it is not percent-decoded.
  fileprivate func matchesQuery(of request: some RequestView, _ bytes: Span<UInt8>) -> Bool {
    guard let query = request.query, let value = QueryParameter.first(name, in: query, bytes) else { return false }
    return match.matches(bytes.extracting(value))
  }
}

/// Looks up query parameters as they are written.
enum QueryParameter {
  /// The range of the first value of `name`; empty when the parameter has no `=`.
  static func first(_ name: [UInt8], in query: Range<Int>, _ bytes: Span<UInt8>) -> Range<Int>? {
    var start = query.lowerBound
    while start <= query.upperBound {
      var end = start
      var equals: Int?
      while end < query.upperBound, bytes[end] != 0x26 {
        if bytes[end] == 0x3D, equals == nil { equals = end }
        end += 1
      }
      let nameEnd = equals ?? end
      if nameEnd > start || !name.isEmpty, Bytes.equal(bytes.extracting(start..<nameEnd), name) {
        return (equals.map { $0 + 1 } ?? end)..<end
      }
      start = end + 1
    }
    return nil
  }
}
