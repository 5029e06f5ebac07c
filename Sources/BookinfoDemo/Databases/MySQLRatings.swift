import Primitives

/// `SELECT Rating FROM ratings` in database `test` of MySQL (client/server protocol 10, text results).
struct MySQLRatings: RatingsDatabase {
  let host: String
  let port: UInt16
  let user: String
  let password: String
  let proxies: Proxies
  let timeout: Duration

  init(environment: Environment, timeout: Duration = .seconds(10)) throws(UsageError) {
    host = environment.nonEmpty("MYSQL_DB_HOST") ?? "mysqldb"
    port = try environment.port("MYSQL_DB_PORT") ?? 3306
    user = environment.nonEmpty("MYSQL_DB_USER") ?? "root"
    password = environment["MYSQL_DB_PASSWORD"] ?? ""
    proxies = try Proxies(environment: environment)
    self.timeout = timeout
  }

  /// The original forgets the status when it cannot connect, so that answer is a 200.
  func firstTwoRatings() throws(RatingsDatabaseError) -> (first: JSON, second: JSON) {
    var session: MySQLSession
    do {
      session = MySQLSession(
        try DatabaseConnection(host: host, port: port, through: proxies, deadline: .now() + timeout))
      try session.logIn(user: user, password: password, database: "test")
    } catch {
      throw RatingsDatabaseError(
        status: 200, message: "could not connect to ratings database", reason: "\(host):\(port): \(error)")
    }
    do {
      let values = try session.firstColumn(of: "SELECT Rating FROM ratings")
      return (values.first ?? .integer(0), values.count > 1 ? values[1] : .integer(0))
    } catch {
      throw RatingsDatabaseError(status: 500, message: "could not perform select", reason: "\(host):\(port): \(error)")
    }
  }
}

/// What a MySQL server refused, in its words.
struct MySQLError: Error, Hashable, CustomStringConvertible {
  let description: String
}

/// One conversation with a MySQL server: packets, log-in, one query.
struct MySQLSession {
  private let connection: DatabaseConnection
  private var sequence: UInt8 = 0

  init(_ connection: DatabaseConnection) { self.connection = connection }

  // MARK: Packets: 3 bytes of length, 1 of sequence

  private mutating func read() throws -> [UInt8] {
    var header = LittleEndianReader(try connection.read(count: 4))
    let low = Int(try header.integer(UInt16.self))
    let length = low + Int(try header.integer(UInt8.self)) << 16
    sequence = try header.integer(UInt8.self) &+ 1
    let packet = try connection.read(count: length)
    if packet.first == 0xFF { throw MySQLError(description: Self.message(of: packet)) }
    return packet
  }

  private mutating func write(_ payload: [UInt8]) throws {
    var packet: [UInt8] = []
    packet.appendLittleEndian(UInt16(truncatingIfNeeded: payload.count))
    packet += [UInt8(truncatingIfNeeded: payload.count >> 16), sequence]
    try connection.write(packet + payload)
  }

  /// Code and text of an error packet; the `#` and five characters of SQL state are left out.
  private static func message(of packet: [UInt8]) -> String {
    let text = packet.dropFirst(3)
    return String(decoding: text.first == UInt8(ascii: "#") ? text.dropFirst(6) : text, as: UTF8.self)
  }

  // MARK: Logging in

  /// LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
  private static let capabilities: UInt32 = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000

  mutating func logIn(user: String, password: String, database: String) throws {
    let greeting = try Greeting(packet: try read())
    let method = MySQLPassword(rawValue: greeting.method) ?? .native
    let proof = method.proof(password, challenge: greeting.challenge)
    var answer: [UInt8] = []
    answer.appendLittleEndian(Self.capabilities)
    answer.appendLittleEndian(UInt32(Limits.databaseMessageBytes))
    answer += [45] + [UInt8](repeating: 0, count: 23)
    answer += Array(user.utf8) + [0, UInt8(truncatingIfNeeded: proof.count)] + proof
    answer += Array(database.utf8) + [0] + Array(method.rawValue.utf8) + [0]
    try write(answer)
    try finishLogIn(password: password)
  }

  /// Follows the server through a change of method and caching_sha2's "known already" until it says OK.
  private mutating func finishLogIn(password: String) throws {
    for _ in 0..<4 {
      let packet = try read()
      switch packet.first {
      case 0x00: return
      case 0x01 where packet == [0x01, 0x03]: continue
      case 0x01:
        throw MySQLError(description: "the account needs TLS or a password the server has cached (caching_sha2_password)")
      case 0xFE:
        var reader = LittleEndianReader(packet.dropFirst())
        let name = String(decoding: try reader.terminated(), as: UTF8.self)
        guard let method = MySQLPassword(rawValue: name) else {
          throw MySQLError(description: "the account needs the log-in method '\(name)'")
        }
        try write(method.proof(password, challenge: Array(reader.rest.prefix(20))))
      default: throw ByteError.malformed
      }
    }
    throw MySQLError(description: "the server does not finish the log-in")
  }

  /// The server's first packet: its challenge and the method it expects.
  private struct Greeting {
    var challenge: [UInt8]
    var method: String

    init(packet: [UInt8]) throws {
      var reader = LittleEndianReader(packet)
      guard try reader.integer(UInt8.self) == 10 else { throw MySQLError(description: "the server does not speak protocol 10") }
      _ = try reader.terminated()
      _ = try reader.bytes(4)
      challenge = try reader.bytes(8)
      _ = try reader.bytes(1 + 2 + 1 + 2 + 2 + 1 + 10)
      challenge += try reader.bytes(12)
      _ = try reader.bytes(1)
      method = reader.isAtEnd ? MySQLPassword.native.rawValue : String(decoding: try reader.terminated(), as: UTF8.self)
    }
  }

  // MARK: Querying

  /// The first column of the first two rows: numbers as numbers, NULL as null.
  mutating func firstColumn(of query: String) throws -> [JSON] {
    sequence = 0
    try write([0x03] + Array(query.utf8))
    var head = LittleEndianReader(try read())
    let columns = try Self.length(&head) ?? 0
    guard columns > 0, columns <= Limits.databaseRows else { throw ByteError.malformed }
    for _ in 0..<columns { _ = try read() }
    guard Self.isEnd(try read()) else { throw ByteError.malformed }
    var values: [JSON] = []
    for _ in 0..<Limits.databaseRows {
      let row = try read()
      if Self.isEnd(row) || values.count == 2 { return values }
      values.append(try Self.value(row))
    }
    return values
  }

  private static func isEnd(_ packet: [UInt8]) -> Bool { packet.first == 0xFE && packet.count < 9 }

  private static func value(_ row: [UInt8]) throws -> JSON {
    var reader = LittleEndianReader(row)
    guard let count = try length(&reader) else { return .null }
    let text = try reader.bytes(count)
    if case .number(let digits)? = try? JSON(parsing: text) { return .number(digits) }
    return .string(String(decoding: text, as: UTF8.self))
  }

  /// A length-encoded integer; nil stands for NULL.
  private static func length(_ reader: inout LittleEndianReader) throws -> Int? {
    switch try reader.integer(UInt8.self) {
    case 0xFB: return nil
    case 0xFC: return Int(try reader.integer(UInt16.self))
    case 0xFD: return Int(try reader.integer(UInt16.self)) | Int(try reader.integer(UInt8.self)) << 16
    case 0xFE, 0xFF: throw ByteError.tooLong
    case let short: return Int(short)
    }
  }
}
