import Primitives

/// The first two documents of `test.ratings` in MongoDB, asked for with one OP_MSG (MongoDB wire protocol, 3.6 and later).
struct MongoRatings: RatingsDatabase {
  let host: String
  let port: UInt16
  let proxies: Proxies
  let timeout: Duration

  /// Reads `MONGO_DB_URL`, such as `mongodb://mongodb:27017/test`.
  init(environment: Environment, timeout: Duration = .seconds(30)) throws(UsageError) {
    let url = environment.nonEmpty("MONGO_DB_URL") ?? "mongodb://mongodb:27017/test"
    let wish = "write MONGO_DB_URL as mongodb://host:27017/test"
    guard url.hasPrefix("mongodb://") else { throw UsageError("'\(url)' is not a MongoDB address: \(wish)") }
    let authority = url.dropFirst("mongodb://".count).prefix { $0 != "/" && $0 != "," && $0 != "?" }
    guard !authority.contains("@") else { throw UsageError("MongoDB with a password is not supported: \(wish)") }
    let parts = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard let port = parts.count == 1 ? 27017 : parseDecimal(parts[1].utf8, max: 65_535), !parts[0].isEmpty, port > 0 else {
      throw UsageError("'\(url)' has no valid host and port: \(wish)")
    }
    host = String(parts[0])
    self.port = UInt16(port)
    proxies = try Proxies(environment: environment)
    self.timeout = timeout
  }

  func firstTwoRatings() throws(RatingsDatabaseError) -> (first: JSON, second: JSON) {
    let connection: DatabaseConnection
    do {
      connection = try DatabaseConnection(host: host, port: port, through: proxies, deadline: .now() + timeout)
    } catch {
      throw RatingsDatabaseError(
        status: 500, message: "could not connect to ratings database", reason: "\(host):\(port): \(error)")
    }
    do {
      let documents = try find(connection)
      let ratings = (0..<2).map { index -> JSON in
        guard index < documents.count else { return .integer(0) }
        return documents[index]["rating"]?.json ?? .null
      }
      return (ratings[0], ratings[1])
    } catch {
      throw RatingsDatabaseError(
        status: 500, message: "could not load ratings from database", reason: "\(host):\(port): \(error)")
    }
  }

  private static let opMessage: Int32 = 2013

  private func find(_ connection: DatabaseConnection) throws -> [BSON] {
    try connection.write(Self.query)
    var header = LittleEndianReader(try connection.read(count: 16))
    let length = Int(try header.integer(Int32.self))
    _ = try header.bytes(8)
    guard try header.integer(Int32.self) == Self.opMessage, length > 16 + 5 else { throw ByteError.malformed }
    var body = LittleEndianReader(try connection.read(count: length - 16))
    _ = try body.integer(UInt32.self)
    guard try body.integer(UInt8.self) == 0 else { throw ByteError.malformed }
    let answer = BSON.document(try BSON.decode(&body))
    guard case .array(let documents)? = answer["cursor"]?["firstBatch"] else {
      throw StreamError.broken("the database answered \(answer["errmsg"]?.json?.text() ?? "without documents")")
    }
    return documents
  }

  /// `find` on `test.ratings` for two documents, as one OP_MSG with a body section.
  static let query: [UInt8] = {
    let command = BSON.encode([
      .init(name: "find", value: .string("ratings")), .init(name: "filter", value: .document([])),
      .init(name: "limit", value: .int32(2)), .init(name: "singleBatch", value: .bool(true)),
      .init(name: "$db", value: .string("test")),
    ])
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(Int32(truncatingIfNeeded: 16 + 5 + command.count))
    bytes.appendLittleEndian(1 as Int32)
    bytes.appendLittleEndian(0 as Int32)
    bytes.appendLittleEndian(opMessage)
    bytes.appendLittleEndian(0 as UInt32)
    return bytes + [0] + command
  }()
}
