/// The one book of the store.
enum Book {
  static let title = "The Comedy of Errors"

  /// Trusted HTML: it goes into the page as it stands.
  static let descriptionHTML =
    "<a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">Wikipedia Summary</a>: The Comedy of Errors is one of "
    + "<b>William Shakespeare's</b> early plays. It is his shortest and one of his most farcical comedies, with a major "
    + "part of the humour coming from slapstick and mistaken identity, in addition to puns and word play."

  static let products: JSON = [["id": .integer(0), "title": .string(title), "descriptionHtml": .string(descriptionHTML)]]
}
