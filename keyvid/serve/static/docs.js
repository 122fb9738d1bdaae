// The interface as Swagger UI shows it, from files of this server alone.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null });
