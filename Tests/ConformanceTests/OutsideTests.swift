import Glibc
import Nodes
import Testing

/// The files that have Bookinfo use something outside the mesh.
extension NetworkingTests {
  @Test(.enabled(if: Conformance.isPrivileged, "a private /etc/hosts takes root and mount namespaces"))
  func `egress-rule-google-apis turns the plain requests of details v2 into TLS`() throws {
    let books = try BookService(directory: mesh.directory, address: mesh.outside)
    defer { books.stop() }
    let details = BookinfoMesh.Workload(
      service: "details", version: "v2", node: 1, port: 9086, environment: ["DO_NOT_ENCRYPT": "true"])
    try mesh.use("destination-rule-all", "virtual-service-all-v1", "virtual-service-details-v2")
    try mesh.with(details) {
      // Without the rule port 80 of the service is asked, where nobody listens: that is a 400 of details.
      #expect(try mesh.visitor().get("/api/v1/products/0").status == 400)
      try mesh.apply(["egress-rule-google-apis"])
      let answer = try mesh.visitor().get("/api/v1/products/0")
      #expect(answer.status == 200)
      for word in ["Author Outside", "Publisher Outside", "0486424618", "9780486424613"] {
        #expect(answer.text.contains(word), "\(answer.text)")
      }
    }
    #expect(books.log.contains("Hostname in TLS extension: \"\(BookService.host)\""))
    // The application speaks plain HTTP: its node could read, route and log the request.
    let line = "\"GET /books/v1/volumes?q=isbn:0486424618 HTTP/1.1\" 200"
    _ = try eventually("the access log has the request") {
      mesh.accessLog(1, line, "\"\(mesh.outside):443\"", "outbound|443||\(BookService.host)").isEmpty ? nil : true
    }
  }

  @Test func `ratings-db shows what is in MongoDB`() throws {
    let url = "mongodb://\(mesh.outside):27017/test"
    try databaseDecides(
      .mongo, "virtual-service-ratings-db",
      BookinfoMesh.Workload(service: "ratings", version: "v2", node: 3, port: 9087, environment: ["MONGO_DB_URL": url]))
  }

  @Test(arguments: ["v2-mysql", "v2-mysql-vm"])
  func `ratings-mysql shows what is in MySQL`(version: String) throws {
    let variables = [
      "MYSQL_DB_HOST": mesh.outside, "MYSQL_DB_PORT": "3306", "MYSQL_DB_USER": "root", "MYSQL_DB_PASSWORD": "password",
    ]
    try databaseDecides(
      .mysql, "virtual-service-ratings-\(version.dropFirst(3))",
      BookinfoMesh.Workload(service: "ratings", version: version, node: 3, port: 9087, environment: variables))
  }

  private func databaseDecides(_ kind: RatingsDatabase.Kind, _ file: String, _ ratings: BookinfoMesh.Workload) throws {
    let database = try RatingsDatabase(kind, address: mesh.outside)
    defer { database.stop() }
    try mesh.use("destination-rule-all", "virtual-service-all-v1", file)
    try mesh.with(ratings) {
      let visitor = mesh.visitor()
      let full = try visitor.get("/productpage").text
      #expect(ReviewsShown(full) == .redStars)
      #expect(stars(full) == 9, "5 and 4")
      #expect(try visitor.get("/api/v1/products/0/ratings").text.contains("5"))
      database.set([1, 4])
      #expect(stars(try visitor.get("/productpage").text) == 5, "1 and 4")
      // Every answer came from the database: v1 would still say 5.
      let before = database.conversations
      #expect(try visitor.pages(20) == [.redStars: 20])
      #expect(database.conversations == before + 20)
      print("  \(file): 9 stars, then 5; \(database.conversations - before) of 20 pages asked the database")
    }
    #expect(ReviewsShown(try mesh.visitor().get("/productpage").text) == .ratingsUnavailable, "its subset is empty again")
  }

  private func stars(_ page: String) -> Int { page.ranges(of: "id=\"glyphicon glyphicon-star\"").count }
}
