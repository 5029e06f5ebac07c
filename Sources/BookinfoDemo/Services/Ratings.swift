import HTTPCodec
import Primitives
import Synchronization

/// The stars of the two reviewers: in memory, from a database (`v2`), or with one of the test versions' faults.
final class Ratings: Service {
  /// What `SERVICE_VERSION` selects; any other version answers from memory.
  enum Behaviour: Hashable, Sendable {
    case inMemory
    case database
    /// Half of the requests fail.
    case faulty
    /// Half of the requests are late.
    case delayed
    /// Good and unavailable in turns; health stays good.
    case unavailable
    /// Good and unavailable in turns, and health says so.
    case unhealthy

    init(version: String?) {
      self =
        switch version {
        case "v2": .database
        case "v-faulty": .faulty
        case "v-delayed": .delayed
        case "v-unavailable": .unavailable
        case "v-unhealthy": .unhealthy
        default: .inMemory
        }
    }

    /// How long each good or bad phase lasts.
    var phase: Duration? {
      switch self {
      case .unavailable: .seconds(60)
      case .unhealthy: .seconds(15 * 60)
      default: nil
      }
    }
  }

  static let delay = Duration.seconds(7)

  private let behaviour: Behaviour
  private let database: (any RatingsDatabase)?
  private let uptime: @Sendable () -> Duration
  private let coin: Mutex<SeededGenerator>
  private let posted = Mutex<[Int64: JSON]>([:])

  /// `uptime` is the time since the service started; it decides the phase of `v-unavailable` and `v-unhealthy`.
  init(
    version: String?, database: (any RatingsDatabase)? = nil, seed: UInt64, uptime: @escaping @Sendable () -> Duration
  ) {
    behaviour = Behaviour(version: version)
    self.database = database
    self.uptime = uptime
    coin = Mutex(SeededGenerator(seed: seed))
  }

  func respond(to request: HTTPRequest) -> HTTPResponse {
    if request.path == "/health" { return health }
    guard request.path.utf8.starts(with: "/ratings/".utf8) else { return .notFound }
    guard let product = Self.productNumber(request.lastSegment) else {
      return .json(400, ["error": "please provide numeric product ID"])
    }
    switch request.method {
    case "GET", "HEAD": return ratings(of: product)
    case "POST": return post(request.body, product: product)
    default: return .notFound
    }
  }

  func delay(of request: HTTPRequest) -> Duration {
    behaviour == .delayed && request.isRead && request.path.utf8.starts(with: "/ratings/".utf8) && flip()
      ? Self.delay : .zero
  }

  private var health: HTTPResponse {
    behaviour == .unhealthy && isInBadPhase
      ? .json(500, ["status": "Ratings is not healthy"]) : .json(200, ["status": "Ratings is healthy"])
  }

  private func ratings(of product: Int64) -> HTTPResponse {
    switch behaviour {
    case .inMemory, .delayed: return remembered(product)
    case .database: return stored(product)
    case .faulty: return flip() ? Self.unavailable : remembered(product)
    case .unavailable, .unhealthy: return isInBadPhase ? Self.unavailable : remembered(product)
    }
  }

  private func remembered(_ product: Int64) -> HTTPResponse {
    let ratings = posted.withLock { $0[product] } ?? ["Reviewer1": .integer(5), "Reviewer2": .integer(4)]
    return .json(200, ["id": .integer(product), "ratings": ratings])
  }

  private func stored(_ product: Int64) -> HTTPResponse {
    guard let database else { return .json(500, ["error": "could not connect to ratings database"]) }
    do {
      let stars = try database.firstTwoRatings()
      return .json(200, ["id": .integer(product), "ratings": ["Reviewer1": stars.first, "Reviewer2": stars.second]])
    } catch {
      log("ratings database at \(error.reason)")
      return .json(error.status, ["error": .string(error.message)])
    }
  }

  private func post(_ body: [UInt8], product: Int64) -> HTTPResponse {
    guard let ratings = try? JSON(parsing: body) else {
      return .json(400, ["error": "please provide valid ratings JSON"])
    }
    guard behaviour != .database else {
      return .json(501, ["error": "Post not implemented for database backed ratings"])
    }
    let isKept = posted.withLock { posted in
      guard posted[product] != nil || posted.count < Limits.postedRatings else { return false }
      posted[product] = ratings
      return true
    }
    guard isKept else {
      return .json(503, ["error": "too many products have ratings; restart to forget them"])
    }
    return .json(200, ["id": .integer(product), "ratings": ratings])
  }

  private static let unavailable = HTTPResponse.json(503, ["error": "Service unavailable"])

  private func flip() -> Bool { coin.withLock { $0.chance(0.5) } }

  private var isInBadPhase: Bool {
    guard let phase = behaviour.phase else { return false }
    return uptime().nanosecondsClamped / phase.nanosecondsClamped % 2 == 1
  }

  /// JavaScript's `parseInt`, decimal: blanks and a sign in front are allowed, whatever follows the digits is ignored.
  static func productNumber(_ text: Substring) -> Int64? {
    var rest = text.utf8[...]
    let isNegative = rest.first == UInt8(ascii: "-")
    if isNegative || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
    let digits = rest.prefix(while: ASCII.isDigit)
    guard digits.count <= Limits.productDigits, let number = parseDecimal(digits) else { return nil }
    return isNegative ? -Int64(number) : Int64(number)
  }
}
