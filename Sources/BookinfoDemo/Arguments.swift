import Primitives

/// The services of Bookinfo and the versions each has.
enum ServiceName: String, CaseIterable, Sendable {
  case productpage, details, reviews, ratings

  var versions: [String] {
    switch self {
    case .productpage: ["v1", "v-flooding"]
    case .details: ["v1", "v2"]
    case .reviews: ["v1", "v2", "v3"]
    case .ratings: ["v1", "v2", "v2-mysql", "v2-mysql-vm", "v-faulty", "v-delayed", "v-unavailable", "v-unhealthy"]
    }
  }
}

/// What the command line asks for.
enum Command: Hashable, Sendable {
  case help
  case serve(Arguments)

  /// Reads the words after the program's name.
  init(parsing words: [String]) throws(UsageError) {
    if words.isEmpty || words.contains("--help") || words.contains("-h") || words.first == "help" {
      self = .help
    } else {
      self = .serve(try Arguments(parsing: words))
    }
  }
}

/// Which service to run, and where.
struct Arguments: Hashable, Sendable {
  var service: ServiceName
  var version: String
  var address: String
  /// 0 lets the system choose.
  var port: UInt16

  fileprivate init(parsing words: [String]) throws(UsageError) {
    let name = words.first ?? ""
    guard let service = ServiceName(rawValue: name) else {
      let names = ServiceName.allCases.map(\.rawValue).joined(separator: ", ")
      throw UsageError("'\(name)' is not a service; the services are \(names)")
    }
    let options = try Self.options(words.dropFirst())
    guard let port = options["--port"] else { throw UsageError("\(name) needs a port, for example: --port 9080") }
    guard let number = parseDecimal(port.utf8, max: 65_535) else {
      throw UsageError("--port \(port): give a number from 1 to 65535, or 0 for any free port")
    }
    let version = options["--version"] ?? "v1"
    guard service.versions.contains(version) else {
      throw UsageError("\(name) has no version '\(version)'; it has \(service.versions.joined(separator: ", "))")
    }
    self.service = service
    self.version = version
    self.address = options["--address"] ?? "127.0.0.1"
    self.port = UInt16(number)
  }

  /// `--name value` and `--name=value`, each at most once.
  private static func options(_ words: ArraySlice<String>) throws(UsageError) -> [String: String] {
    var options: [String: String] = [:]
    var rest = words
    while let word = rest.popFirst() {
      let halves = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      let name = halves[0]
      guard ["--version", "--port", "--address"].contains(name) else {
        throw UsageError("unknown argument '\(word)'; try BookinfoDemo --help")
      }
      guard let value = halves.count > 1 ? halves[1] : rest.popFirst(), !value.isEmpty else {
        throw UsageError("\(name) needs a value")
      }
      guard options.updateValue(value, forKey: name) == nil else { throw UsageError("\(name) is given twice") }
    }
    return options
  }
}

extension Command {
  static let helpText = """
    BookinfoDemo: the services of Istio's Bookinfo example, one process each. They are plain HTTP and know nothing of a
    mesh; whatever stands in http_proxy carries their calls.

    USAGE
      BookinfoDemo SERVICE --port PORT [--version VERSION] [--address ADDRESS]

    SERVICES AND VERSIONS
      productpage   v1, v-flooding                  the page; calls details and reviews
      details       v1, v2                          facts about the book; v2 asks www.googleapis.com
      reviews       v1, v2, v3                      v1 without stars, v2 with black, v3 with red ones; v2 and v3 call ratings
      ratings       v1, v2, v2-mysql, v2-mysql-vm   the stars, in memory, from MongoDB (v2) or from MySQL
                    v-faulty, v-delayed, v-unavailable, v-unhealthy   for failure tests

    OPTIONS
      --port PORT        where to listen; 0 takes any free port and prints it
      --version VERSION  default v1
      --address ADDRESS  default 127.0.0.1; 0.0.0.0 or :: for all interfaces

    ENVIRONMENT
      http_proxy, no_proxy         the proxy for plain calls, such as http://127.0.0.1:15001 (https_proxy for TLS)
      DETAILS_HOSTNAME, DETAILS_SERVICE_PORT, and so for REVIEWS and RATINGS; SERVICES_DOMAIN
      SESSION_SECRET               productpage: the key of session cookies, when several instances share their users
      FLOOD_FACTOR                 productpage: extra calls to reviews for each page
      HOSTNAME, CLUSTER_NAME       reviews: shown on the page as what served it
      ENABLE_RATINGS, STAR_COLOR   reviews: over what the version says
      ENABLE_EXTERNAL_BOOK_SERVICE, DO_NOT_ENCRYPT   details
      SERVICE_VERSION, DB_TYPE, MONGO_DB_URL, MYSQL_DB_HOST, MYSQL_DB_PORT, MYSQL_DB_USER, MYSQL_DB_PASSWORD   ratings

    EXAMPLES
      BookinfoDemo details --port 9080
      HOSTNAME=reviews-v3-1 http_proxy=http://127.0.0.1:15001 BookinfoDemo reviews --version v3 --port 9080

    EXIT CODES
      0 stopped by SIGTERM or SIGINT   1 could not listen   2 wrong arguments or environment

    """
}
