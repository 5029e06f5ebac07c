import COpenSSL
import Primitives

/// What a container image of Bookinfo is: a service with the environment its version sets.
struct ServiceImage: Sendable {
  let service: any Service
  /// How long an idle connection is kept: 2 seconds on productpage, as gunicorn does.
  let idleTimeout: Duration

  init(_ arguments: Arguments, environment: Environment) throws(UsageError) {
    let environment = environment.withDefaults(Self.defaults(arguments.service, version: arguments.version))
    let backend = NetworkBackend(proxies: try Proxies(environment: environment))
    idleTimeout = arguments.service == .productpage ? .seconds(2) : .seconds(30)
    switch arguments.service {
    case .productpage:
      guard let signer = environment.nonEmpty("SESSION_SECRET").map(SessionSigner.init) ?? .random() else {
        throw UsageError("the system gives no random numbers for a session key; set SESSION_SECRET")
      }
      service = try ProductPage(environment: environment, backend: backend, signer: signer)
    case .details: service = Details(environment: environment, backend: backend)
    case .reviews: service = try Reviews(environment: environment, backend: backend)
    case .ratings: service = try Self.ratings(environment)
    }
  }

  /// The variables a version's image sets, with those of its deployment that choose the database.
  static func defaults(_ service: ServiceName, version: String) -> [String: String] {
    switch (service, version) {
    case (.reviews, "v1"): ["ENABLE_RATINGS": "false"]
    case (.reviews, "v2"): ["ENABLE_RATINGS": "true"]
    case (.reviews, "v3"): ["ENABLE_RATINGS": "true", "STAR_COLOR": "red"]
    case (.details, "v2"): ["ENABLE_EXTERNAL_BOOK_SERVICE": "true"]
    case (.productpage, "v-flooding"): ["FLOOD_FACTOR": "100"]
    case (.ratings, "v2-mysql"), (.ratings, "v2-mysql-vm"): ["SERVICE_VERSION": "v2", "DB_TYPE": "mysql"]
    default: ["SERVICE_VERSION": version]
    }
  }

  private static func ratings(_ environment: Environment) throws(UsageError) -> Ratings {
    let start = Instant.now()
    let version = environment["SERVICE_VERSION"]
    var database: (any RatingsDatabase)?
    if version == "v2" {
      database =
        environment["DB_TYPE"] == "mysql"
        ? try MySQLRatings(environment: environment) : try MongoRatings(environment: environment)
    }
    var seed = [UInt8](repeating: 0, count: 8)
    RAND_bytes(&seed, Int32(seed.count))
    return Ratings(version: version, database: database, seed: seed.reduce(0) { $0 << 8 | UInt64($1) }) {
      Instant.now() - start
    }
  }
}

extension Environment {
  /// These variables where the environment does not set them.
  func withDefaults(_ defaults: [String: String]) -> Environment {
    Environment(variables.merging(defaults) { own, _ in own })
  }
}
